-- Metal3Remediation: it goes away when the machine is back; as long as it is there, something is under way.
local first = paused() or unseen()
if first then
  return first
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
