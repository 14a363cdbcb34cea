-- Presence leases: one for each user on each replica.
-- KEYS online, leases, count, edges (one slot)   ARGV 1 op, 2 server id, limit, number of server ids, or moment (ms),
-- 3 ms a lease lasts, 4... server ids of mend, then user ids
-- renew and drop return the ids that crossed the edge: came online, or went offline. So does sweep, which ends
-- at most <limit> expired leases of any replica, and mend, which counts the leases of users anew.
-- edges returns the present moment, and the first who crossed the edge since <moment>, 0 or negative from now: id and
-- moment, in turns.
local EDGES_KEPT_MS = 600000
local EDGES_AT_ONCE = 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local past = string.format('%.0f', now)
local crossed = {}

-- The edges help to repair: what another program has put there must not stop presence.
local function cross(user)
  crossed[#crossed + 1] = user
  redis.pcall('ZADD', KEYS[4], past, user)
end

local function finish(lease)
  if redis.call('ZREM', KEYS[2], lease) == 0 then
    return
  end
  local user = string.match(lease, '^[^|]+')
  if redis.call('HINCRBY', KEYS[3], user, -1) <= 0 then
    redis.call('HDEL', KEYS[3], user)
    redis.call('SREM', KEYS[1], user)
    cross(user)
  end
end

if ARGV[1] == 'renew' then
  local ends = string.format('%.0f', now + ARGV[3])
  for i = 4, #ARGV do
    if redis.call('ZADD', KEYS[2], ends, ARGV[i] .. '|' .. ARGV[2]) == 1 then
      redis.call('HINCRBY', KEYS[3], ARGV[i], 1)
    end
    if redis.call('SADD', KEYS[1], ARGV[i]) == 1 then
      cross(ARGV[i])
    end
  end
elseif ARGV[1] == 'drop' then
  for i = 4, #ARGV do
    finish(ARGV[i] .. '|' .. ARGV[2])
  end
elseif ARGV[1] == 'mend' then
  local servers = tonumber(ARGV[2])
  for i = 4 + servers, #ARGV do
    local leases = 0
    for j = 4, 3 + servers do
      if redis.call('ZSCORE', KEYS[2], ARGV[i] .. '|' .. ARGV[j]) then
        leases = leases + 1
      end
    end
    if leases > 0 then
      redis.call('HSET', KEYS[3], ARGV[i], leases)
    else
      redis.call('HDEL', KEYS[3], ARGV[i])
      if redis.call('SREM', KEYS[1], ARGV[i]) == 1 then
        cross(ARGV[i])
      end
    end
  end
elseif ARGV[1] == 'edges' then
  local since = tonumber(ARGV[2]) > 0 and ARGV[2] or string.format('%.0f', now + ARGV[2])
  local found = redis.call('ZRANGEBYSCORE', KEYS[4], since, past, 'WITHSCORES', 'LIMIT', 0, EDGES_AT_ONCE)
  table.insert(found, 1, past)
  return found
else
  -- A clock that was ahead must keep nobody online: no lease lasts longer than from now on.
  local most = string.format('%.0f', now + ARGV[3])
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. most, '+inf', 'LIMIT', 0, ARGV[2])) do
    redis.call('ZADD', KEYS[2], most, lease)
  end
  redis.pcall('ZREMRANGEBYSCORE', KEYS[4], '(' .. past, '+inf')
  local old = redis.pcall('ZCOUNT', KEYS[4], '-inf', string.format('%.0f', now - EDGES_KEPT_MS))
  if type(old) == 'number' and old > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[4], 0, math.min(old, EDGES_AT_ONCE) - 1)
  end
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', past, 'LIMIT', 0, ARGV[2])) do
    finish(lease)
  end
end
if #crossed > 0 then
  -- Servers that know no edges remove none.
  redis.pcall('PEXPIRE', KEYS[4], EDGES_KEPT_MS)
end
return crossed
