-- Changes fields of an account that is there: what comes after its end brings back no part of it.
-- KEYS user
-- ARGV 1 '1' if a disabled account keeps its fields too, 2 a field, or '' for none, 3 the value that it must have, 4 field,
--      5 value, or '' to delete the field, ...
-- Returns 1, or 0 if there is no such account, it is deleted, so disabled, or has another value
local about = redis.call('HMGET', KEYS[1], 'username', 'deleted', 'disabled')
if not about[1] or about[2] or (ARGV[1] == '1' and about[3]) then
  return 0
end
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then
  return 0
end
for at = 4, #ARGV, 2 do
  if ARGV[at + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[at])
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
return 1
