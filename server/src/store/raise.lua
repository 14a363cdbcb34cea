-- Raises a counter to the highest id in use, and replaces what is no counter: at once, or ids that are given meanwhile
-- would be given again. After head.lua.
-- KEYS counter
-- ARGV 1 the highest id in use
-- Returns 1 if the counter was behind
local stored = redis.pcall('GET', KEYS[1])
local count = type(stored) == 'string' and numberIn(stored) or nil
local highest = tonumber(ARGV[1])
if count and count >= highest then
  return 0
end
if highest == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
