-- Metal3DataTemplate: somebody answers the claims on it.
local first = paused() or unseen()
if first then
  return first
end
local said = find("Ready")
if said.status == "True" or (said.status == nil and obj.metadata.finalizers ~= nil) then
  return health("Healthy", "Answers claims")
end
return health("Progressing", said.message or "Waiting for the controller")
