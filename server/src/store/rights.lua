-- Which of these commands the user may not run with these arguments. Runs none of them, and Redis notes no refusal.
-- ARGV: the commands, as JSON. Answers their places in the list. A Redis that cannot be asked (before 7.0) refuses none.
local refused = {}
for place, command in ipairs(cjson.decode(ARGV[1])) do
  local isKnown, may = pcall(redis.acl_check_cmd, unpack(command))
  if isKnown and not may then refused[#refused + 1] = place end
end
return refused
