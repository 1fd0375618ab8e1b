The manager dies right after the host has been claimed, before it could remember anything, and the answer is lost with it.
seed 0, faults: infra write 2: crash landed

     0.0s  user          bootstrap config m1 is made
     0.0s  user          metal3machine m1 is made
     0.0s  user          machine m1 is made
     0.1s  Cluster API   machine m1 is Pending
     0.1s  Cluster API   secret m1 is made
     0.3s  Cluster API   machine m1 is Provisioning
     0.3s  infra #1      metal3machine m1 goes for site/host-1
     0.3s  infra #1      host host-1 is claimed for m1
     0.3s  infra #1      host host-1 gets an image
     0.3s  host operator host host-1 is provisioning
     0.3s  *** infra write 2: crash landed
     0.3s  infra#1 is killed
     1.3s  host operator host host-1 is provisioned
     1.8s  kubelet       node m1 is made
     2.3s  infra#3 starts
     2.3s  infra #3      metal3machine m1 is not ready: waiting for BareMetalHost site/host-1 to be provisioned and for a Node with the label metal3.io/uuid=acdfd00d-aee8-431b-9abc-023f336fdaa7
     2.3s  infra #3      node m1 is known as metal3://site/host-1/m1
     2.3s  infra #3      metal3machine m1 is known as metal3://site/host-1/m1
     2.3s  infra #3      metal3machine m1 is ready
     2.3s  Cluster API   machine m1 is Running
    32.5s                everything is at rest

expected:
  yes: machine m1 runs
  yes: 1 host is free
  yes: 1 host is claimed
requests: 8 of infra, 0 of ipam, 7 of them writes, 8.0 for each of 1 machines in site
