-- Deletes a key of another type than a command expects: at once, or what was written meanwhile would go too.
-- KEYS key
-- ARGV 1 the command
local answer = redis.pcall(ARGV[1], KEYS[1])
if type(answer) == 'table' and answer.err and string.find(answer.err, 'WRONGTYPE', 1, true) then
  redis.call('DEL', KEYS[1])
end
