-- IPClaim: an IPAddress answers it.
local first = paused() or unseen()
if first then
  return first
end
if status.errorMessage ~= nil then
  return health("Degraded", status.errorMessage)
end
if status.address ~= nil then
  return health("Healthy", "Answered by IPAddress " .. (status.address.name or ""))
end
return health("Progressing", "Waiting for IPPool " .. (((obj.spec or {}).pool or {}).name or ""))
