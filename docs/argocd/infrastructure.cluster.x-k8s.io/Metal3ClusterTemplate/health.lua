-- Metal3ClusterTemplate: nothing happens to it; Metal3Clusters are made from it.
return health("Healthy", "A template")
