-- The messages after a cursor, or a reset with its reason.
-- KEYS room, meta   ARGV 1 seq, 2 date, 3 hash or '', 4 most rows, 5 bytes after which no row is added,
--      6 '1' to pass over what is not ours
-- Returns {'ok' | 'ahead' | 'rewound' | 'trimmed', head seq, head date, head hash, '1' if there is more, row, ...}.
-- After a reset the rows are the newest ones. At least one row is answered, where there is one.
-- Or {'theirs'}: another program's rows stand there, which must be adopted first.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'first')
local head, headDate, headHash = tonumber(meta[1] or '0'), meta[2] or '0', meta[3] or ''
local seq, most, size = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- Rows are read a few at a time: of long ones hardly more than are answered.
local SLICE = 16

local function own(row)
  return string.find(row, '^{"roomId":"[%d:]+","seq":%d+,"date":%d+,"hash":"') ~= nil
end

local function answer(status, rows, more)
  local reply = { status, string.format('%.0f', head), headDate, headHash, more and '1' or '0' }
  for _, row in ipairs(rows) do
    reply[#reply + 1] = row
  end
  return reply
end

local function reset(reason)
  local newest, bytes, read = {}, 0, 0
  repeat
    local slice = redis.call('ZREVRANGE', KEYS[1], read, read + SLICE - 1)
    read = read + #slice
    for _, row in ipairs(slice) do
      if own(row) and #newest < 50 and (bytes <= size or #newest == 0) then
        newest[#newest + 1] = row
        bytes = bytes + #row
      end
    end
  until #newest == 50 or bytes > size or #slice < SLICE or read > 5000
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

local rows, bytes, read = {}, 0, 0
repeat
  local slice = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'LIMIT', read, SLICE)
  read = read + #slice
  for _, row in ipairs(slice) do
    if own(row) then
      if #rows == most or (#rows > 0 and bytes > size) then
        return answer('ok', rows, true)
      end
      rows[#rows + 1] = row
      bytes = bytes + #row
    elseif ARGV[6] ~= '1' then
      return { 'theirs' }
    end
  end
  if #slice < SLICE then
    return answer('ok', rows, false)
  end
until read > 5000
return reset('trimmed')
