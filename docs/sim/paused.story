A cluster is paused while a machine is on its way and its manager is replaced. Nothing moves until the cluster is resumed.
seed 0, faults: calm

     0.0s  user          bootstrap config m1 is made
     0.0s  user          metal3machine m1 is made
     0.0s  user          machine m1 is made
     0.1s  Cluster API   machine m1 is Pending
     0.1s  Cluster API   secret m1 is made
     0.3s  Cluster API   machine m1 is Provisioning
     0.3s  infra #1      metal3machine m1 goes for site/host
     0.3s  infra #1      host host is claimed for m1
     0.3s  infra #1      host host gets an image
     0.3s  infra #1      metal3machine m1 is not ready: waiting for BareMetalHost site/host to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
     0.3s  host operator host host is provisioning
     0.5s  infra #1      metal3machine m1 is not ready: AssociateBareMetalHost: Cluster spec.paused is set to true * Metal3DataReady: Condition not yet reported
     0.5s  user          cluster prod is paused
     0.5s  infra #1      host host is paused
    30.0s  infra #1      is killed
    30.0s  infra #3      starts
   300.0s  user          machine m1 is to go
   600.0s  user          cluster prod is resumed
   600.0s  infra #3      host host is resumed
   600.0s  infra #3      metal3machine m1 is not ready: waiting for BareMetalHost site/host to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
   600.0s  host operator host host is provisioned
   600.1s  infra #3      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/host to be deprovisioned * Metal3DataReady: Condition not yet reported
   600.1s  Cluster API   machine m1 is Deleting
   600.1s  Cluster API   metal3machine m1 is to go
   600.1s  infra #3      host host loses its image
   600.1s  host operator host host is deprovisioning
   601.3s  host operator host host is available
   601.3s  infra #3      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: Deleting * Metal3DataReady: Condition not yet reported
   601.3s  infra #3      host host is free again
   601.3s  infra #3      metal3machine m1 is gone
   601.4s  Cluster API   bootstrap config m1 is gone
   601.5s  Cluster API   machine m1 is gone
   601.5s  collector     secret m1 is gone
   661.5s                everything is at rest

expected:
  yes: machine m1 is gone
  yes: host host is free
requests: 20 of infra, 0 of ipam, 17 of them writes
