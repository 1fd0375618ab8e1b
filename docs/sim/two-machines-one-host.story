Two machines want one host. One gets it; the other gets it when the first goes.
seed 0, faults: calm

     0.0s  user          bootstrap config m1 is made
     0.0s  user          bootstrap config m2 is made
     0.0s  user          metal3machine m1 is made
     0.0s  user          metal3machine m2 is made
     0.0s  user          machine m1 is made
     0.0s  user          machine m2 is made
     0.0s  Cluster API   machine m2 is Pending
     0.0s  Cluster API   secret m2 is made
     0.1s  Cluster API   machine m1 is Pending
     0.2s  Cluster API   secret m1 is made
     0.2s  Cluster API   machine m1 is Provisioning
     0.2s  infra #1      metal3machine m1 goes for site/host
     0.2s  infra #1      host host is claimed for m1
     0.2s  infra #1      host host gets an image
     0.2s  infra #1      metal3machine m1 is not ready: waiting for BareMetalHost site/host to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
     0.2s  Cluster API   machine m2 is Provisioning
     0.2s  infra #1      metal3machine m2 is not ready: AssociateBareMetalHost: none of 1 BareMetalHosts fits: 1 claimed; nearest is host (claimed) * AssociateMetal3MachineMetaData: Condition not yet reported * Metal3DataReady: Condition not yet reported
     0.2s  host operator host host is provisioning
     1.2s  host operator host host is provisioned
     2.7s  kubelet       node m1 is made
     2.7s  infra #1      node m1 is known as metal3://site/host/m1
     2.7s  infra #1      metal3machine m1 is known as metal3://site/host/m1
     2.7s  infra #1      metal3machine m1 is ready
     2.8s  Cluster API   machine m1 is Running
     3.0s  user          machine m1 is to go
     3.0s  Cluster API   machine m1 is Deleting
     3.0s  Cluster API   metal3machine m1 is to go
     3.0s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host to be deprovisioned
     3.0s  infra #1      host host loses its image
     3.0s  host operator host host is deprovisioning
     4.2s  host operator host host is available
     4.2s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: Deleting
     4.2s  infra #1      metal3machine m2 is not ready: waiting for BareMetalHost site/host to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
     4.2s  infra #1      host host is free again
     4.2s  infra #1      metal3machine m1 is gone
     4.2s  infra #1      metal3machine m2 goes for site/host
     4.2s  infra #1      host host is claimed for m2
     4.2s  infra #1      host host gets an image
     4.2s  Cluster API   bootstrap config m1 is gone
     4.4s  collector     secret m1 is gone
     4.4s  host operator host host is provisioning
     4.4s  Cluster API   node m1 is gone
     4.4s  Cluster API   machine m1 is gone
     5.4s  host operator host host is provisioned
     5.5s  kubelet       node m2 is made
     5.5s  infra #1      node m2 is known as metal3://site/host/m2
     5.5s  infra #1      metal3machine m2 is known as metal3://site/host/m2
     5.5s  infra #1      metal3machine m2 is ready
     5.5s  Cluster API   machine m2 is Running
    35.5s                everything is at rest

expected:
  yes: machine m2 runs
  yes: machine m2 is on host
requests: 25 of infra, 0 of ipam, 21 of them writes, 25.0 for each of 1 machines in site
