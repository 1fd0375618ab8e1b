-- Metal3DataClaim: a Metal3Data answers it.
local first = paused() or unseen()
if first then
  return first
end
if status.renderedData ~= nil then
  return health("Healthy", "Answered by Metal3Data " .. (status.renderedData.name or ""))
end
if status.errorMessage ~= nil then
  return health("Degraded", status.errorMessage)
end
return health("Progressing", "Waiting for Metal3DataTemplate " .. (((obj.spec or {}).template or {}).name or ""))
