-- The messages after a cursor, or a reset with its reason.
-- KEYS room, meta   ARGV 1 seq, 2 date, 3 hash or '', 4 most rows, 5 bytes after which no row is added
-- Returns {'ok' | 'ahead' | 'rewound' | 'trimmed', head seq, head date, head hash, '1' if there is more, row, ...}.
-- After a reset the rows are the newest ones. At least one row is answered, where there is one.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'first')
local head, headDate, headHash = tonumber(meta[1] or '0'), meta[2] or '0', meta[3] or ''
local seq, most, size = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- Rows are read a few at a time: of long ones hardly more than are answered.
local SLICE = 16

local function answer(status, rows, more)
  local reply = { status, string.format('%.0f', head), headDate, headHash, more and '1' or '0' }
  for _, row in ipairs(rows) do
    reply[#reply + 1] = row
  end
  return reply
end

local function reset(reason)
  local newest, bytes, place = {}, 0, 0
  while #newest < 50 and bytes <= size do
    local slice = redis.call('ZREVRANGE', KEYS[1], place, place + SLICE - 1)
    for _, row in ipairs(slice) do
      if #newest < 50 and (bytes <= size or #newest == 0) then
        newest[#newest + 1] = row
        bytes = bytes + #row
      end
    end
    place = place + SLICE
    if #slice < SLICE then
      break
    end
  end
  local rows = {}
  for i = #newest, 1, -1 do
    rows[#rows + 1] = newest[i]
  end
  return answer(reason, rows, false)
end

-- A message at the cursor's date with the cursor's seq and hash proves that the whole log up to it is the same.
local function known()
  local mark = '"seq":' .. ARGV[1] .. ',"date":' .. ARGV[2] .. ',"hash":"' .. ARGV[3]
  for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])) do
    if string.find(string.sub(row, 1, 120), mark, 1, true) then
      return true
    end
  end
  return false
end

if seq > 0 and not (seq == head and ARGV[3] == headHash) then
  if seq > head then
    return reset('ahead')
  end
  if meta[4] and seq < tonumber(meta[4]) then
    return reset('trimmed')
  end
  if not known() then
    return reset('rewound')
  end
end

-- Every answer holds a row with a place in the log, or is the last: otherwise no cursor would ever get past the rows
-- that another program added. Of too many of them the newest page is all that is told.
-- They are counted, not passed over by score: a message of ours may have the same one.
local passed = 0
for _ = 1, 50 do
  local rows, bytes, placed, full, read = {}, 0, false, false, passed
  repeat
    local slice = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'LIMIT', read, SLICE)
    read = read + #slice
    for _, row in ipairs(slice) do
      if #rows == most or (placed and bytes > size) then
        if placed then
          return answer('ok', rows, true)
        end
        full = true
        break
      end
      rows[#rows + 1] = row
      bytes = bytes + #row
      placed = placed or string.find(row, '^{"roomId":"[%d:]+","seq":%d+,"date":%d+,"hash":"') ~= nil
    end
  until full or #slice < SLICE
  if not full then
    return answer('ok', rows, false)
  end
  passed = passed + most
end
return reset('trimmed')
