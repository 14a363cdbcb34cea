-- Moves a read mark upwards, never beyond the newest message.
-- KEYS read, meta   ARGV user id, seq   Returns where the mark stands.
local head = tonumber(redis.call('HGET', KEYS[2], 'seq') or '0')
local mark = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
local wanted = math.min(tonumber(ARGV[2]), head)
if wanted > mark then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', wanted))
  return wanted
end
return mark
