A host cannot be provisioned. The machine says so, is deleted, and its successor takes the other host while the first is being mended.
seed 0, faults: calm

     0.0s  user          bootstrap config m1 is made
     0.0s  user          metal3machine m1 is made
     0.0s  user          machine m1 is made
     0.1s  Cluster API   machine m1 is Pending
     0.1s  Cluster API   secret m1 is made
     0.3s  Cluster API   machine m1 is Provisioning
     0.3s  infra #1      metal3machine m1 goes for site/bad
     0.3s  infra #1      host bad is claimed for m1
     0.3s  infra #1      host bad gets an image
     0.3s  infra #1      metal3machine m1 is not ready: waiting for BareMetalHost site/bad to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
     0.3s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: BareMetalHost site/bad: provisioning error: Image provisioning failed (url: http://192.0.2.1/image.raw, checksum: abc): asked to fail * Metal3DataReady: Condition not yet reported
     0.3s  infra #1      metal3machine m1 is not ready: waiting for BareMetalHost site/bad to be provisioned and for a Node with the label metal3.io/uuid=1caf0d76-cdcc-498d-9480-c8eb33d77c5b
     0.3s  host operator host bad is provisioning
     0.3s  host operator host bad is in error Image provisioning failed (url: http://192.0.2.1/image.raw, checksum: abc): asked to fail
     0.3s  host operator host bad is deprovisioning
     0.3s  host operator host bad is well again
     1.5s  host operator host bad is available
     1.5s  host operator host bad is provisioning
     1.5s  host operator host bad is in error Image provisioning failed (url: http://192.0.2.1/image.raw, checksum: abc): asked to fail
     1.5s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: BareMetalHost site/bad: provisioning error: Image provisioning failed (url: http://192.0.2.1/image.raw, checksum: abc): asked to fail * Metal3DataReady: Condition not yet reported
     1.5s  user          machine m1 is to go
     1.5s  user          bootstrap config m2 is made
     1.5s  user          metal3machine m2 is made
     1.5s  user          machine m2 is made
     1.5s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: BareMetalHost site/bad is not deprovisioned: provisioning error: Image provisioning failed (url: http://192.0.2.1/image.raw, checksum: abc): asked to fail * Metal3DataReady: Condition not yet reported
     1.5s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: waiting for BareMetalHost site/bad to be deprovisioned * Metal3DataReady: Condition not yet reported
     1.5s  Cluster API   machine m1 is Deleting
     1.5s  Cluster API   metal3machine m1 is to go
     1.5s  infra #1      host bad loses its image
     1.5s  host operator host bad is deprovisioning
     1.5s  host operator host bad is well again
     1.7s  Cluster API   machine m2 is Pending
     1.8s  Cluster API   secret m2 is made
     1.9s  host operator host good is provisioning
     1.9s  infra #1      metal3machine m2 is not ready: waiting for BareMetalHost site/good to be provisioned and for a Node with the label metal3.io/uuid=acdfd00d-aee8-431b-9abc-023f336fdaa7
     1.9s  Cluster API   machine m2 is Provisioning
     1.9s  infra #1      metal3machine m2 goes for site/good
     1.9s  infra #1      host good is claimed for m2
     1.9s  infra #1      host good gets an image
     2.7s  host operator host bad is available
     2.7s  infra #1      metal3machine m1 is not ready: AssociateMetal3MachineMetaData: Deleting * Metal3DataReady: Condition not yet reported
     2.7s  infra #1      host bad is free again
     2.7s  infra #1      metal3machine m1 is gone
     2.7s  Cluster API   bootstrap config m1 is gone
     2.8s  collector     secret m1 is gone
     2.9s  Cluster API   machine m1 is gone
     2.9s  host operator host good is provisioned
     5.0s  kubelet       node m2 is made
     5.0s  infra #1      node m2 is known as metal3://site/good/m2
     5.0s  infra #1      metal3machine m2 is known as metal3://site/good/m2
     5.0s  infra #1      metal3machine m2 is ready
     5.0s  Cluster API   machine m2 is Running
    35.5s                everything is at rest

expected:
  yes: machine m2 runs
  yes: host bad is free
  yes: machine m1 is gone
requests: 22 of infra, 0 of ipam, 21 of them writes, 22.0 for each of 1 machines in site
