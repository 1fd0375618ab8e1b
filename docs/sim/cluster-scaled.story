A cluster of three control plane machines and three workers grows by two workers and shrinks again.
seed 0, faults: calm

     0.0s  user          control-plane plane is made
     0.0s  user          machinedeployment workers is made
     0.0s  Cluster API   machineset workers-workers is made
     0.0s  Cluster API   bootstrap config workers-workers-2de0d is made
     0.0s  Cluster API   metal3machine workers-workers-2de0d is made
     0.0s  Cluster API   machine workers-workers-2de0d is made
     0.1s  Cluster API   bootstrap config workers-workers-eb8d8 is made
     0.1s  Cluster API   metal3machine workers-workers-eb8d8 is made
     0.1s  Cluster API   machine workers-workers-eb8d8 is made
     0.2s  Cluster API   bootstrap config plane-bec35 is made
     0.2s  Cluster API   metal3machine plane-bec35 is made
     0.2s  Cluster API   machine plane-bec35 is made
     0.2s  Cluster API   machine workers-workers-eb8d8 is Pending
     0.2s  Cluster API   bootstrap config workers-workers-b3b1a is made
     0.2s  Cluster API   metal3machine workers-workers-b3b1a is made
     0.2s  Cluster API   machine workers-workers-b3b1a is made
     0.2s  Cluster API   machine plane-bec35 is Pending
     0.2s  Cluster API   machine workers-workers-2de0d is Pending
     0.2s  Cluster API   secret workers-workers-eb8d8 is made
     0.2s  Cluster API   secret plane-bec35 is made
     0.2s  Cluster API   machine plane-bec35 is Provisioning
     0.2s  infra #1      metal3machine plane-bec35 goes for site/host-2
     0.2s  infra #1      host host-2 is claimed for plane-bec35
     0.2s  infra #1      dataclaim plane-bec35 is made
     0.2s  infra #1      data network-0 is made
     0.2s  infra #1      claim network-0-provisioning is made
     0.3s  Cluster API   secret workers-workers-2de0d is made
     0.3s  Cluster API   machine workers-workers-2de0d is Provisioning
     0.3s  infra #1      metal3machine workers-workers-2de0d goes for site/host-3
     0.3s  infra #1      host host-3 is claimed for workers-workers-2de0d
     0.3s  infra #1      dataclaim workers-workers-2de0d is made
     0.3s  infra #1      data network-1 is made
     0.3s  infra #1      claim network-1-provisioning is made
     0.3s  Cluster API   machine workers-workers-b3b1a is Pending
     0.3s  ipam #2       address provisioning-192-0-2-10 is made for network-0-provisioning
     0.3s  ipam #2       address provisioning-192-0-2-11 is made for network-1-provisioning
     0.3s  ipam #2       claim network-0-provisioning gets address provisioning-192-0-2-10
     0.3s  ipam #2       claim network-1-provisioning gets address provisioning-192-0-2-11
     0.3s  infra #1      secret plane-bec35-metadata is made
     0.3s  infra #1      secret workers-workers-2de0d-metadata is made
     0.3s  infra #1      secret plane-bec35-networkdata is made
     0.3s  infra #1      secret workers-workers-2de0d-networkdata is made
     0.3s  infra #1      data network-0 is rendered
     0.3s  infra #1      data network-1 is rendered
     0.3s  infra #1      host host-2 gets an image
     0.3s  infra #1      host host-3 gets an image
     0.3s  infra #1      metal3machine plane-bec35 is not ready: waiting for BareMetalHost site/host-2 to be provisioned and for a Node with the label metal3.io/uuid=88b990dd-881d-4a2a-ac69-a9e667da7bbf
     0.3s  infra #1      metal3machine workers-workers-2de0d is not ready: waiting for BareMetalHost site/host-3 to be provisioned and for a Node with the label metal3.io/uuid=f4fb4fca-442c-4249-8fcf-076a0b09157f
     0.3s  host operator host host-2 is provisioning
     0.3s  host operator host host-3 is provisioning
     0.3s  Cluster API   machine workers-workers-eb8d8 is Provisioning
     0.3s  infra #1      metal3machine workers-workers-eb8d8 goes for site/host-6
     0.3s  infra #1      host host-6 is claimed for workers-workers-eb8d8
     0.3s  infra #1      dataclaim workers-workers-eb8d8 is made
     0.3s  infra #1      data network-2 is made
     0.3s  infra #1      claim network-2-provisioning is made
     0.4s  Cluster API   secret workers-workers-b3b1a is made
     0.4s  Cluster API   machine workers-workers-b3b1a is Provisioning
     0.4s  infra #1      metal3machine workers-workers-b3b1a goes for site/host-5
     0.4s  infra #1      host host-5 is claimed for workers-workers-b3b1a
     0.4s  infra #1      dataclaim workers-workers-b3b1a is made
     0.4s  infra #1      data network-3 is made
     0.4s  infra #1      claim network-3-provisioning is made
     0.4s  ipam #2       address provisioning-192-0-2-12 is made for network-2-provisioning
     0.4s  ipam #2       address provisioning-192-0-2-13 is made for network-3-provisioning
     0.4s  ipam #2       claim network-2-provisioning gets address provisioning-192-0-2-12
     0.4s  ipam #2       claim network-3-provisioning gets address provisioning-192-0-2-13
     0.4s  infra #1      secret workers-workers-eb8d8-metadata is made
     0.4s  infra #1      secret workers-workers-b3b1a-metadata is made
     0.4s  infra #1      secret workers-workers-eb8d8-networkdata is made
     0.4s  infra #1      secret workers-workers-b3b1a-networkdata is made
     0.4s  infra #1      data network-2 is rendered
     0.4s  infra #1      data network-3 is rendered
     0.4s  infra #1      host host-6 gets an image
     0.4s  infra #1      host host-5 gets an image
     0.4s  infra #1      metal3machine workers-workers-eb8d8 is not ready: waiting for BareMetalHost site/host-6 to be provisioned and for a Node with the label metal3.io/uuid=e2d6993e-6785-4f09-859c-fc149ffad1ee
     0.4s  infra #1      metal3machine workers-workers-b3b1a is not ready: waiting for BareMetalHost site/host-5 to be provisioned and for a Node with the label metal3.io/uuid=163a46c3-8601-4245-9073-175981a754d5
     0.4s  host operator host host-6 is provisioning
     0.4s  host operator host host-5 is provisioning
     1.3s  host operator host host-2 is provisioned
     1.3s  host operator host host-3 is provisioned
     1.4s  host operator host host-5 is provisioned
     1.4s  host operator host host-6 is provisioned
     1.6s  kubelet       node plane-bec35 is made
     1.6s  infra #1      metal3machine plane-bec35 is known as metal3://site/host-2/plane-bec35
     1.6s  infra #1      metal3machine plane-bec35 is ready
     1.6s  Cluster API   machine plane-bec35 is Running
     1.8s  Cluster API   bootstrap config plane-887a5 is made
     1.8s  Cluster API   metal3machine plane-887a5 is made
     1.8s  Cluster API   machine plane-887a5 is made
     1.8s  kubelet       node workers-workers-eb8d8 is made
     1.8s  infra #1      metal3machine workers-workers-eb8d8 is known as metal3://site/host-6/workers-workers-eb8d8
     1.8s  infra #1      metal3machine workers-workers-eb8d8 is ready
     1.9s  Cluster API   machine plane-887a5 is Pending
     1.9s  Cluster API   machine workers-workers-eb8d8 is Running
     2.0s  Cluster API   secret plane-887a5 is made
     2.1s  kubelet       node workers-workers-b3b1a is made
     2.1s  infra #1      metal3machine workers-workers-b3b1a is known as metal3://site/host-5/workers-workers-b3b1a
     2.1s  infra #1      metal3machine workers-workers-b3b1a is ready
     2.1s  Cluster API   machine workers-workers-b3b1a is Running
     2.2s  Cluster API   machine plane-887a5 is Provisioning
     2.2s  infra #1      metal3machine plane-887a5 goes for site/host-7
     2.2s  infra #1      host host-7 is claimed for plane-887a5
     2.2s  infra #1      dataclaim plane-887a5 is made
     2.2s  infra #1      data network-4 is made
     2.2s  infra #1      claim network-4-provisioning is made
     2.3s  ipam #2       address provisioning-192-0-2-14 is made for network-4-provisioning
     2.3s  ipam #2       claim network-4-provisioning gets address provisioning-192-0-2-14
     2.3s  infra #1      secret plane-887a5-metadata is made
     2.3s  infra #1      secret plane-887a5-networkdata is made
     2.3s  infra #1      data network-4 is rendered
     2.3s  infra #1      host host-7 gets an image
     2.3s  infra #1      metal3machine plane-887a5 is not ready: waiting for BareMetalHost site/host-7 to be provisioned and for a Node with the label metal3.io/uuid=7acb2297-0316-4715-9d24-fe1c92895421
     2.3s  host operator host host-7 is provisioning
     3.1s  kubelet       node workers-workers-2de0d is made
     3.1s  infra #1      metal3machine workers-workers-2de0d is known as metal3://site/host-3/workers-workers-2de0d
     3.1s  infra #1      metal3machine workers-workers-2de0d is ready
     3.1s  Cluster API   machine workers-workers-2de0d is Running
     3.3s  host operator host host-7 is provisioned
     6.1s  kubelet       node plane-887a5 is made
     6.1s  infra #1      metal3machine plane-887a5 is known as metal3://site/host-7/plane-887a5
     6.1s  infra #1      metal3machine plane-887a5 is ready
     6.1s  Cluster API   machine plane-887a5 is Running
     6.4s  Cluster API   bootstrap config plane-8da2e is made
     6.4s  Cluster API   metal3machine plane-8da2e is made
     6.4s  Cluster API   machine plane-8da2e is made
     6.6s  Cluster API   machine plane-8da2e is Pending
     6.6s  Cluster API   secret plane-8da2e is made
     6.6s  Cluster API   machine plane-8da2e is Provisioning
     6.6s  infra #1      metal3machine plane-8da2e goes for site/host-1
     6.6s  infra #1      host host-1 is claimed for plane-8da2e
     6.6s  infra #1      dataclaim plane-8da2e is made
     6.6s  infra #1      data network-5 is made
     6.6s  infra #1      claim network-5-provisioning is made
     6.7s  ipam #2       address provisioning-192-0-2-15 is made for network-5-provisioning
     6.7s  ipam #2       claim network-5-provisioning gets address provisioning-192-0-2-15
     6.7s  infra #1      secret plane-8da2e-metadata is made
     6.7s  infra #1      secret plane-8da2e-networkdata is made
     6.7s  infra #1      data network-5 is rendered
     6.7s  infra #1      host host-1 gets an image
     6.7s  infra #1      metal3machine plane-8da2e is not ready: waiting for BareMetalHost site/host-1 to be provisioned and for a Node with the label metal3.io/uuid=f9fcb486-eb69-40ca-b8c5-507106a647bf
     6.7s  host operator host host-1 is provisioning
     7.7s  host operator host host-1 is provisioned
     8.6s  kubelet       node plane-8da2e is made
     8.6s  infra #1      metal3machine plane-8da2e is known as metal3://site/host-1/plane-8da2e
     8.6s  infra #1      metal3machine plane-8da2e is ready
     8.7s  Cluster API   machine plane-8da2e is Running
     9.0s  user          machinedeployment workers is scaled from 3 to 5
     9.2s  Cluster API   bootstrap config workers-workers-193f6 is made
     9.2s  Cluster API   metal3machine workers-workers-193f6 is made
     9.2s  Cluster API   machine workers-workers-193f6 is made
     9.2s  Cluster API   bootstrap config workers-workers-8993d is made
     9.2s  Cluster API   metal3machine workers-workers-8993d is made
     9.2s  Cluster API   machine workers-workers-8993d is made
     9.3s  Cluster API   machine workers-workers-193f6 is Pending
     9.3s  Cluster API   secret workers-workers-193f6 is made
     9.3s  Cluster API   machine workers-workers-8993d is Pending
     9.4s  Cluster API   secret workers-workers-8993d is made
     9.4s  Cluster API   machine workers-workers-8993d is Provisioning
     9.4s  infra #1      metal3machine workers-workers-8993d goes for site/host-0
     9.4s  infra #1      host host-0 is claimed for workers-workers-8993d
     9.4s  infra #1      dataclaim workers-workers-8993d is made
     9.4s  infra #1      data network-6 is made
     9.4s  infra #1      claim network-6-provisioning is made
     9.5s  ipam #2       address provisioning-192-0-2-16 is made for network-6-provisioning
     9.5s  ipam #2       claim network-6-provisioning gets address provisioning-192-0-2-16
     9.5s  infra #1      secret workers-workers-8993d-metadata is made
     9.5s  infra #1      secret workers-workers-8993d-networkdata is made
     9.5s  infra #1      data network-6 is rendered
     9.5s  infra #1      host host-0 gets an image
     9.5s  infra #1      metal3machine workers-workers-8993d is not ready: waiting for BareMetalHost site/host-0 to be provisioned and for a Node with the label metal3.io/uuid=ba2d8013-3f4a-4259-9dcd-3c50fe3a4c2c
     9.5s  host operator host host-0 is provisioning
     9.5s  Cluster API   machine workers-workers-193f6 is Provisioning
     9.5s  infra #1      metal3machine workers-workers-193f6 goes for site/host-4
     9.5s  infra #1      host host-4 is claimed for workers-workers-193f6
     9.5s  infra #1      dataclaim workers-workers-193f6 is made
     9.5s  infra #1      data network-7 is made
     9.5s  infra #1      claim network-7-provisioning is made
     9.6s  ipam #2       address provisioning-192-0-2-17 is made for network-7-provisioning
     9.6s  ipam #2       claim network-7-provisioning gets address provisioning-192-0-2-17
     9.6s  infra #1      secret workers-workers-193f6-metadata is made
     9.6s  infra #1      secret workers-workers-193f6-networkdata is made
     9.6s  infra #1      data network-7 is rendered
     9.6s  infra #1      host host-4 gets an image
     9.6s  infra #1      metal3machine workers-workers-193f6 is not ready: waiting for BareMetalHost site/host-4 to be provisioned and for a Node with the label metal3.io/uuid=1bbe524a-6d13-4479-84d1-03f8c6ce161d
     9.6s  host operator host host-4 is provisioning
    10.5s  host operator host host-0 is provisioned
    10.6s  host operator host host-4 is provisioned
    11.7s  kubelet       node workers-workers-193f6 is made
    11.7s  infra #1      metal3machine workers-workers-193f6 is known as metal3://site/host-4/workers-workers-193f6
    11.7s  infra #1      metal3machine workers-workers-193f6 is ready
    11.8s  Cluster API   machine workers-workers-193f6 is Running
    12.5s  kubelet       node workers-workers-8993d is made
    12.5s  infra #1      metal3machine workers-workers-8993d is known as metal3://site/host-0/workers-workers-8993d
    12.5s  infra #1      metal3machine workers-workers-8993d is ready
    12.5s  Cluster API   machine workers-workers-8993d is Running
    12.5s  user          machinedeployment workers is scaled from 5 to 1
    12.6s  Cluster API   machine workers-workers-193f6 is to go
    12.6s  Cluster API   machine workers-workers-2de0d is to go
    12.6s  Cluster API   machine workers-workers-8993d is to go
    12.6s  Cluster API   machine workers-workers-b3b1a is to go
    12.7s  Cluster API   machine workers-workers-193f6 is Deleting
    12.7s  Cluster API   metal3machine workers-workers-193f6 is to go
    12.7s  infra #1      metal3machine workers-workers-193f6 is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host-4 to be deprovisioned
    12.7s  infra #1      host host-4 loses its image
    12.7s  host operator host host-4 is deprovisioning
    12.7s  Cluster API   machine workers-workers-2de0d is Deleting
    12.7s  Cluster API   metal3machine workers-workers-2de0d is to go
    12.7s  infra #1      metal3machine workers-workers-2de0d is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host-3 to be deprovisioned
    12.7s  infra #1      host host-3 loses its image
    12.7s  host operator host host-3 is deprovisioning
    12.8s  Cluster API   machine workers-workers-b3b1a is Deleting
    12.8s  Cluster API   metal3machine workers-workers-b3b1a is to go
    12.8s  infra #1      metal3machine workers-workers-b3b1a is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host-5 to be deprovisioned
    12.8s  infra #1      host host-5 loses its image
    12.8s  host operator host host-5 is deprovisioning
    12.9s  Cluster API   machine workers-workers-8993d is Deleting
    12.9s  Cluster API   metal3machine workers-workers-8993d is to go
    12.9s  infra #1      metal3machine workers-workers-8993d is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host-0 to be deprovisioned
    12.9s  infra #1      host host-0 loses its image
    12.9s  host operator host host-0 is deprovisioning
    13.9s  host operator host host-4 is available
    13.9s  infra #1      metal3machine workers-workers-193f6 is not ready: AssociateMetal3MachineMetaData: Deleting
    13.9s  infra #1      dataclaim workers-workers-193f6 is to go
    13.9s  infra #1      data network-7 is to go
    13.9s  infra #1      host host-4 is free again
    13.9s  infra #1      dataclaim workers-workers-193f6 is gone
    13.9s  infra #1      metal3machine workers-workers-193f6 is gone
    13.9s  infra #1      claim network-7-provisioning is to go
    13.9s  infra #1      data network-7 is gone
    13.9s  ipam #2       address provisioning-192-0-2-17 is gone
    13.9s  ipam #2       claim network-7-provisioning is gone
    13.9s  host operator host host-3 is available
    13.9s  infra #1      metal3machine workers-workers-2de0d is not ready: AssociateMetal3MachineMetaData: Deleting
    13.9s  infra #1      dataclaim workers-workers-2de0d is to go
    13.9s  infra #1      data network-1 is to go
    13.9s  infra #1      host host-3 is free again
    13.9s  infra #1      dataclaim workers-workers-2de0d is gone
    13.9s  infra #1      metal3machine workers-workers-2de0d is gone
    13.9s  infra #1      claim network-1-provisioning is to go
    13.9s  infra #1      data network-1 is gone
    13.9s  ipam #2       address provisioning-192-0-2-11 is gone
    13.9s  ipam #2       claim network-1-provisioning is gone
    13.9s  Cluster API   bootstrap config workers-workers-2de0d is gone
    14.0s  Cluster API   bootstrap config workers-workers-193f6 is gone
    14.0s  collector     12 secrets are gone: workers-workers-193f6, workers-workers-193f6-metadata, …
    14.0s  host operator host host-5 is available
    14.0s  infra #1      metal3machine workers-workers-b3b1a is not ready: AssociateMetal3MachineMetaData: Deleting
    14.0s  infra #1      dataclaim workers-workers-b3b1a is to go
    14.0s  infra #1      data network-3 is to go
    14.0s  infra #1      host host-5 is free again
    14.0s  infra #1      dataclaim workers-workers-b3b1a is gone
    14.0s  infra #1      metal3machine workers-workers-b3b1a is gone
    14.0s  infra #1      claim network-3-provisioning is to go
    14.0s  infra #1      data network-3 is gone
    14.0s  ipam #2       address provisioning-192-0-2-13 is gone
    14.0s  ipam #2       claim network-3-provisioning is gone
    14.0s  Cluster API   node workers-workers-193f6 is gone
    14.0s  Cluster API   machine workers-workers-193f6 is gone
    14.1s  Cluster API   node workers-workers-2de0d is gone
    14.1s  Cluster API   machine workers-workers-2de0d is gone
    14.1s  host operator host host-0 is available
    14.1s  infra #1      metal3machine workers-workers-8993d is not ready: AssociateMetal3MachineMetaData: Deleting
    14.1s  infra #1      dataclaim workers-workers-8993d is to go
    14.1s  infra #1      data network-6 is to go
    14.1s  infra #1      host host-0 is free again
    14.1s  infra #1      dataclaim workers-workers-8993d is gone
    14.1s  infra #1      metal3machine workers-workers-8993d is gone
    14.1s  infra #1      claim network-6-provisioning is to go
    14.1s  infra #1      data network-6 is gone
    14.1s  ipam #2       address provisioning-192-0-2-16 is gone
    14.1s  ipam #2       claim network-6-provisioning is gone
    14.1s  Cluster API   bootstrap config workers-workers-b3b1a is gone
    14.2s  Cluster API   bootstrap config workers-workers-8993d is gone
    14.2s  Cluster API   node workers-workers-b3b1a is gone
    14.2s  Cluster API   machine workers-workers-b3b1a is gone
    14.4s  Cluster API   node workers-workers-8993d is gone
    14.4s  Cluster API   machine workers-workers-8993d is gone
    74.5s                everything is at rest

expected:
  yes: 4 machines run
  yes: there are 4 nodes
  yes: 4 addresses are held
  yes: 4 hosts are free
requests: 174 of infra, 38 of ipam, 211 of them writes, 53.0 for each of 4 machines in site
