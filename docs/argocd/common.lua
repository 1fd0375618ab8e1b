-- What the script of every kind begins with: how to say something, where to find it, and the answers that do not depend on the kind.
local status = obj.status or {}
-- In v1beta1 the newer dialect of conditions has a place of its own; in v1beta2 the older one has.
local conditions = (status.v1beta2 or {}).conditions or status.conditions or {}
local older = (status.deprecated or {}).v1beta1 or status

local function health(state, message)
  return {status = state, message = message or ""}
end

local function find(wanted)
  for _, condition in ipairs(conditions) do
    if condition.type == wanted then
      return condition
    end
  end
  return {}
end

local function paused()
  local said = find("Paused")
  if said.status == "True" or (obj.metadata.annotations or {})["cluster.x-k8s.io/paused"] ~= nil then
    return health("Suspended", said.message or "Paused")
  end
end

local function unseen()
  if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
    return health("Progressing", "Generation " .. tostring(obj.metadata.generation) .. " has not been looked at yet")
  end
end

local function failed()
  if older.failureMessage ~= nil or older.failureReason ~= nil then
    return health("Degraded", older.failureMessage or older.failureReason)
  end
  for _, condition in ipairs(older.conditions or {}) do
    if condition.status == "False" and condition.severity == "Error" then
      return health("Degraded", condition.message or find("Ready").message)
    end
  end
end

