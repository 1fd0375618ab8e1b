-- Metal3Machine: its host runs, and its Node is known. Read in v1beta2 and in v1beta1.
local first = paused() or unseen() or failed()
if first then
  return first
end
local ready = find("Ready")
local provisioned = (status.initialization or {}).provisioned or status.ready
if ready.status == "True" and provisioned and (obj.spec or {}).providerID ~= nil then
  return health("Healthy", ready.message)
end
return health("Progressing", ready.status ~= "True" and ready.message or "Waiting for its host")
