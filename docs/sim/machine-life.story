A machine comes to a host, runs, and goes again.
seed 0, faults: calm

     0.0s  user          bootstrap config m1 is made
     0.0s  user          metal3machine m1 is made
     0.0s  user          machine m1 is made
     0.1s  Cluster API   machine m1 is Pending
     0.1s  Cluster API   secret m1 is made
     0.3s  Cluster API   machine m1 is Provisioning
     0.3s  infra #1      metal3machine m1 goes for site/host
     0.3s  infra #1      host host is claimed for m1
     0.3s  infra #1      dataclaim m1 is made
     0.3s  infra #1      data network-0 is made
     0.3s  infra #1      claim network-0-provisioning is made
     0.4s  ipam #2       address provisioning-192-0-2-10 is made for network-0-provisioning
     0.4s  ipam #2       claim network-0-provisioning gets address provisioning-192-0-2-10
     0.4s  infra #1      secret m1-metadata is made
     0.4s  infra #1      secret m1-networkdata is made
     0.4s  infra #1      data network-0 is rendered
     0.4s  infra #1      host host gets an image
     0.4s  infra #1      metal3machine m1 is not ready: waiting for BareMetalHost site/host to be provisioned and for a Node with the label metal3.io/uuid=acdfd00d-aee8-431b-9abc-023f336fdaa7
     0.4s  host operator host host is provisioning
     1.4s  host operator host host is provisioned
     4.1s  kubelet       node m1 is made
     4.1s  infra #1      metal3machine m1 is known as metal3://site/host/m1
     4.1s  infra #1      metal3machine m1 is ready
     4.1s  Cluster API   machine m1 is Running
   120.0s  user          machine m1 is to go
   120.1s  Cluster API   machine m1 is Deleting
   120.1s  Cluster API   metal3machine m1 is to go
   120.1s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host to be deprovisioned
   120.1s  infra #1      host host loses its image
   120.1s  host operator host host is deprovisioning
   121.3s  host operator host host is available
   121.3s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: Deleting
   121.3s  infra #1      dataclaim m1 is to go
   121.3s  infra #1      data network-0 is to go
   121.3s  infra #1      host host is free again
   121.3s  infra #1      dataclaim m1 is gone
   121.3s  infra #1      metal3machine m1 is gone
   121.3s  infra #1      claim network-0-provisioning is to go
   121.3s  infra #1      data network-0 is gone
   121.3s  ipam #2       address provisioning-192-0-2-10 is gone
   121.3s  ipam #2       claim network-0-provisioning is gone
   121.3s  Cluster API   bootstrap config m1 is gone
   121.3s  Cluster API   node m1 is gone
   121.3s  Cluster API   machine m1 is gone
   121.5s  collector     secret m1 is gone
   121.5s  collector     secret m1-metadata is gone
   121.5s  collector     secret m1-networkdata is gone
   211.5s                everything is at rest

expected:
  yes: nothing is left
  yes: host host is free
  yes: all is quiet
requests: 31 of infra, 7 of ipam, 37 of them writes
