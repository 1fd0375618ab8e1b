-- Metal3Cluster: it has an endpoint and belongs to a Cluster. Read in v1beta2 and in v1beta1.
local function health(status, message)
  return {status = status, message = message or ""}
end

local status = obj.status or {}
-- In v1beta1 the newer dialect of conditions has a place of its own; in v1beta2 the older one has.
local conditions = (status.v1beta2 or {}).conditions or status.conditions or {}
local older = (status.deprecated or {}).v1beta1 or status

local function find(wanted)
  for _, condition in ipairs(conditions) do
    if condition.type == wanted then
      return condition
    end
  end
  return {}
end

local paused = find("Paused")
if paused.status == "True" or (obj.metadata.annotations or {})["cluster.x-k8s.io/paused"] ~= nil then
  return health("Suspended", paused.message)
end
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "Generation " .. tostring(obj.metadata.generation) .. " has not been looked at yet")
end
if older.failureMessage ~= nil or older.failureReason ~= nil then
  return health("Degraded", older.failureMessage or older.failureReason)
end

local ready = find("Ready")
for _, condition in ipairs(older.conditions or {}) do
  if condition.status == "False" and condition.severity == "Error" then
    return health("Degraded", condition.message or ready.message)
  end
end
local provisioned = (status.initialization or {}).provisioned or status.ready
if ready.status == "True" and provisioned then
  return health("Healthy", ready.message)
end
return health("Progressing", ready.status ~= "True" and ready.message or "Waiting for its Cluster")
