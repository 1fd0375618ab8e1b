-- IPClaim: an IPAddress answers it.
local function health(status, message)
  return {status = status, message = message or ""}
end

local status = obj.status or {}
local pool = ((obj.spec or {}).pool or {}).name or ""
if (obj.metadata.annotations or {})["cluster.x-k8s.io/paused"] ~= nil then
  return health("Suspended", "Paused")
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Generation " .. tostring(obj.metadata.generation) .. " has not been looked at yet")
end
if status.errorMessage ~= nil then
  return health("Degraded", status.errorMessage)
end
if status.address ~= nil then
  return health("Healthy", "Answered by IPAddress " .. (status.address.name or ""))
end
return health("Progressing", "Waiting for IPPool " .. pool)
