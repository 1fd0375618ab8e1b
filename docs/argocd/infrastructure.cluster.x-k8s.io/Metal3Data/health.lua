-- Metal3Data: the Secrets it stands for are there.
local first = paused()
if first then
  return first
end
if status.ready then
  return health("Healthy", "Rendered") -- a machine that runs is not shaken by what goes wrong later
end
if status.errorMessage ~= nil then
  return unseen() or health("Degraded", status.errorMessage)
end
return unseen() or health("Progressing", find("Ready").message or "Waiting to be rendered")
