Two infrastructure managers and two IPAM managers work at once, each believing that it leads. One of the former stands still in the middle of its work and goes on later, with what it remembers.
seed 0, faults: calm

     0.0s  user          bootstrap config m-0 is made
     0.0s  user          bootstrap config m-1 is made
     0.0s  user          bootstrap config m-2 is made
     0.0s  user          metal3machine m-0 is made
     0.0s  user          metal3machine m-1 is made
     0.0s  user          metal3machine m-2 is made
     0.0s  user          machine m-0 is made
     0.0s  user          machine m-1 is made
     0.0s  user          machine m-2 is made
     0.0s  Cluster API   machine m-1 is Pending
     0.1s  Cluster API   machine m-2 is Pending
     0.1s  Cluster API   machine m-0 is Pending
     0.1s  Cluster API   secret m-1 is made
     0.1s  Cluster API   machine m-1 is Provisioning
     0.1s  infra #1      metal3machine m-1 goes for site/host-0
     0.1s  infra #1      host host-0 is claimed for m-1
     0.1s  infra #1      dataclaim m-1 is made
     0.1s  infra #1      data network-0 is made
     0.1s  infra #1      claim network-0-provisioning is made
     0.2s  Cluster API   secret m-2 is made
     0.2s  Cluster API   secret m-0 is made
     0.2s  infra #1      stands still
     0.2s  ipam #3       address provisioning-192-0-2-10 is made for network-0-provisioning
     0.2s  ipam #3       claim network-0-provisioning gets address provisioning-192-0-2-10
     0.2s  infra #2      secret m-1-metadata is made
     0.2s  infra #2      secret m-1-networkdata is made
     0.2s  infra #2      data network-0 is rendered
     0.2s  infra #2      host host-0 gets an image
     0.2s  infra #2      metal3machine m-1 is not ready: waiting for BareMetalHost site/host-0 to be provisioned and for a Node with the label metal3.io/uuid=acdfd00d-aee8-431b-9abc-023f336fdaa7
     0.2s  host operator host host-0 is provisioning
     0.3s  Cluster API   machine m-2 is Provisioning
     0.3s  infra #2      metal3machine m-2 goes for site/host-1
     0.3s  infra #2      host host-1 is claimed for m-2
     0.3s  infra #2      dataclaim m-2 is made
     0.3s  infra #2      data network-1 is made
     0.3s  infra #2      claim network-1-provisioning is made
     0.3s  Cluster API   machine m-0 is Provisioning
     0.3s  infra #2      metal3machine m-0 goes for site/host-2
     0.3s  infra #2      host host-2 is claimed for m-0
     0.3s  infra #2      dataclaim m-0 is made
     0.3s  infra #2      data network-2 is made
     0.3s  infra #2      claim network-2-provisioning is made
     0.4s  ipam #3       address provisioning-192-0-2-11 is made for network-1-provisioning
     0.4s  ipam #3       address provisioning-192-0-2-12 is made for network-2-provisioning
     0.4s  ipam #3       claim network-1-provisioning gets address provisioning-192-0-2-11
     0.4s  ipam #3       claim network-2-provisioning gets address provisioning-192-0-2-12
     0.4s  infra #2      secret m-2-metadata is made
     0.4s  infra #2      secret m-0-metadata is made
     0.4s  infra #2      secret m-2-networkdata is made
     0.4s  infra #2      secret m-0-networkdata is made
     0.4s  infra #2      data network-1 is rendered
     0.4s  infra #2      data network-2 is rendered
     0.4s  infra #2      host host-1 gets an image
     0.4s  infra #2      host host-2 gets an image
     0.4s  infra #2      metal3machine m-2 is not ready: waiting for BareMetalHost site/host-1 to be provisioned and for a Node with the label metal3.io/uuid=ba2d8013-3f4a-4259-9dcd-3c50fe3a4c2c
     0.4s  infra #2      metal3machine m-0 is not ready: waiting for BareMetalHost site/host-2 to be provisioned and for a Node with the label metal3.io/uuid=f9fcb486-eb69-40ca-b8c5-507106a647bf
     0.4s  host operator host host-1 is provisioning
     0.4s  host operator host host-2 is provisioning
     1.2s  host operator host host-0 is provisioned
     1.4s  host operator host host-1 is provisioned
     1.4s  host operator host host-2 is provisioned
     2.5s  kubelet       node m-2 is made
     2.5s  infra #2      metal3machine m-2 is known as metal3://site/host-1/m-2
     2.5s  infra #2      metal3machine m-2 is ready
     2.5s  Cluster API   machine m-2 is Running
     2.7s  kubelet       node m-1 is made
     2.7s  infra #2      metal3machine m-1 is known as metal3://site/host-0/m-1
     2.7s  infra #2      metal3machine m-1 is ready
     2.7s  Cluster API   machine m-1 is Running
     2.8s  kubelet       node m-0 is made
     2.8s  infra #2      metal3machine m-0 is known as metal3://site/host-2/m-0
     2.8s  infra #2      metal3machine m-0 is ready
     2.8s  Cluster API   machine m-0 is Running
    60.0s  infra #1      goes on
    90.0s                everything is at rest

expected:
  yes: 3 machines run
  yes: 3 hosts are claimed
  yes: 3 addresses are held
requests: 59 of infra, 19 of ipam, 51 of them writes, 26.0 for each of 3 machines in site
