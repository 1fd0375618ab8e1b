-- IPAddress: it is in use from its first moment to its last.
return {status = "Healthy", message = (obj.spec or {}).address or ""}
