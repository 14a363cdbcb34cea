-- Gives somebody a role on the server, or takes theirs, unless nobody would own it any more.
-- KEYS staff
-- ARGV user id; 'owner' or 'admin', or '' for none; id of the actor, or '' for the server itself; the role that the
--      actor must still have; then ids and roles, to begin with if nobody has any
-- Returns 1, 0 if this is the last owner, or -1 if the actor has lost the role
if #ARGV > 4 and redis.call('EXISTS', KEYS[1]) == 0 then
  for at = 5, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
  end
end
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[4] then
  return -1
end
if ARGV[2] ~= 'owner' and redis.call('HGET', KEYS[1], ARGV[1]) == 'owner' then
  local owners = 0
  for _, role in ipairs(redis.call('HVALS', KEYS[1])) do
    owners = owners + (role == 'owner' and 1 or 0)
  end
  if owners == 1 then
    return 0
  end
end
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
