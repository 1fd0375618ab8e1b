-- Metal3MachineTemplate: nothing happens to it; Metal3Machines are made from it.
return health("Healthy", "A template")
