-- IPAddress: it is in use from its first moment to its last.
return health("Healthy", (obj.spec or {}).address)
