-- Takes a file from its room if no message has it: nobody can send it any more then.
-- KEYS files (of the room)   ARGV 1 file id
-- Returns 1 if the file is nobody's now, 0 if a message has it.
local holder = redis.call('HGET', KEYS[1], ARGV[1])
if holder and string.sub(holder, 1, 1) == '#' then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
