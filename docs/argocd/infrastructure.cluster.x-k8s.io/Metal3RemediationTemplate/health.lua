-- Metal3RemediationTemplate: nothing happens to it; Metal3Remediations are made from it.
return health("Healthy", "A template")
