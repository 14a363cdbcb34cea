-- How many answers threads have that are not deleted, and the newest of these.
-- KEYS room, deleted, and each thread (one slot)   ARGV how many steps may be spent on leaving deleted ones out
-- Returns for each thread its count and a row, or '' where there is none.
local SLICE = 10
local left = tonumber(ARGV[1])
local gone = redis.call('ZCARD', KEYS[2])
local answer = {}
for at = 3, #KEYS do
  local count = redis.call('ZCARD', KEYS[at])
  local steps = math.min(count, gone)
  if steps > 0 and steps <= left then
    left = left - steps
    count = count - redis.call('ZINTERCARD', 2, KEYS[at], KEYS[2])
  end
  local row = ''
  local from, date = 0, nil
  while count > 0 and not date and (from == 0 or left > 0) do
    local newest = redis.call('ZRANGE', KEYS[at], from, from + SLICE - 1, 'REV', 'WITHSCORES')
    if #newest == 0 then
      break
    end
    for index = 1, #newest, 2 do
      if not date and not redis.call('ZSCORE', KEYS[2], newest[index]) then
        date = newest[index + 1]
      end
    end
    from = from + SLICE
    left = left - SLICE
  end
  if date then
    row = redis.call('ZRANGE', KEYS[1], date, date, 'BYSCORE')[1] or ''
  end
  answer[#answer + 1] = count
  answer[#answer + 1] = row
end
return answer
