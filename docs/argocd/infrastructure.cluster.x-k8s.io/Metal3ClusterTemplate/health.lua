-- Metal3ClusterTemplate: nothing happens to it; Metal3Clusters are made from it.
return {status = "Healthy", message = "A template"}
