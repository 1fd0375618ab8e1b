-- IPPool: its claims are served, as long as addresses are left.
local first = paused() or unseen()
if first then
  return first
end
local said = find("Ready")
if said.status == "True" or (said.status == nil and obj.metadata.finalizers ~= nil) then
  return health("Healthy", said.message)
end
if said.reason == "PoolExhausted" then
  return health("Degraded", said.message)
end
return health("Progressing", said.message or "Waiting for the controller")
