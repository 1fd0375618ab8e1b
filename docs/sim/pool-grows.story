A pool of one address is asked for two. The second claim waits until the pool has grown.
seed 0, faults: calm

     0.0s  user          claim a is made
     0.0s  ipam #2       address pool-192-0-2-10 is made for a
     0.0s  ipam #2       claim a gets address pool-192-0-2-10
     0.5s  user          claim b is made
     0.6s  ipam #2       pool pool is not ready: PoolExhausted: no address is left for 1 claims
     0.6s  ipam #2       claim b gets none: Exhausted IP Pools
    60.5s  ipam #2       pool pool is ready
    60.5s  ipam #2       address pool-192-0-2-11 is made for b
    60.5s  ipam #2       claim b gets address pool-192-0-2-11
    91.0s                everything is at rest

expected:
  yes: claim a has 192.0.2.10
  yes: claim b has 192.0.2.11
  yes: 2 addresses are held
requests: 0 of infra, 10 of ipam, 10 of them writes
