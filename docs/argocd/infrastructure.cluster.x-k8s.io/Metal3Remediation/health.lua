-- Metal3Remediation: it goes away when the machine is back; as long as it is there, something is under way.
local function health(status, message)
  return {status = status, message = message or ""}
end

local status = obj.status or {}
if (obj.metadata.annotations or {})["cluster.x-k8s.io/paused"] ~= nil then
  return health("Suspended", "Paused")
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Generation " .. tostring(obj.metadata.generation) .. " has not been looked at yet")
end
local phase = status.phase
if phase == "Failed" then
  return health("Degraded", "The machine could not be brought back")
end
if phase == "Deleting machine" then
  return health("Degraded", "All attempts are used up: the machine is replaced")
end
local attempts = " (attempt " .. tostring(status.retryCount or 0) .. ")"
return health("Progressing", phase ~= nil and phase .. attempts or "Not started")
