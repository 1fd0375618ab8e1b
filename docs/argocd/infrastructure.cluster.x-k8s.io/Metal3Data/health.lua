-- Metal3Data: the Secrets it stands for are there.
local function health(status, message)
  return {status = status, message = message or ""}
end

local function ready()
  local status = obj.status or {}
  for _, list in ipairs({(status.v1beta2 or {}).conditions or {}, status.conditions or {}}) do
    for _, condition in ipairs(list) do
      if condition.type == "Ready" then
        return condition
      end
    end
  end
  return {}
end

local status = obj.status or {}
if (obj.metadata.annotations or {})["cluster.x-k8s.io/paused"] ~= nil then
  return health("Suspended", "Paused")
end
if status.ready then
  return health("Healthy", "Rendered") -- a machine that runs is not shaken by what goes wrong later
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Generation " .. tostring(obj.metadata.generation) .. " has not been looked at yet")
end
if status.errorMessage ~= nil then
  return health("Degraded", status.errorMessage)
end
return health("Progressing", ready().message or "Waiting to be rendered")
