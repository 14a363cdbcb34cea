-- The messages after a cursor, or a reset with its reason; for a replica also what changed since a rev. Needs head.lua
-- and rows.lua.
-- KEYS room, meta, records, changed, revs (one slot)
-- ARGV 1 seq, 2 date, 3 hash or '', 4 most rows, 5 bytes after which no row is added,
--      6 '1' to skip rows that are not ours, 7 rev and 8 its hash, if changes are asked for
-- Returns {'ok' | 'ahead' | 'rewound' | 'trimmed', head seq, head date, head hash, '1' if there is more, head rev, its
-- hash, changes, what, present state, ..., row, ...}. What changed is '@<user>', with the record, or a date, with the
-- row. The number of changes is -1 if the rev is none of this room's, or too far back.
-- After a reset the rows are the newest ones. Answers at least one row, if there is one. What is 'ok' follows the cursor
-- without a gap, up to the head unless there is more.
-- Or {'theirs'}: rows of another program stand there, or the head is lost; the caller must adopt them first.
local meta = redis.call('HMGET', KEYS[2], 'seq', 'date', 'hash', 'first', 'rev', 'revHash')
local head, date, headHash = headIn(meta[1], meta[2], meta[3])
local headDate = string.format('%.0f', date)
local first = numberIn(meta[4])
local seq, most, size = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- Rows are read a few at a time, so that long ones are not read far beyond the limit.
local SLICE = 16
local REMEMBERED, CHANGES = 1000, 500

local headRev, headRevHash = revisionIn(meta[5], meta[6])

-- The present state of everything that changed since: once each.
local function changes()
  local rev = tonumber(ARGV[7])
  if not rev or (rev == headRev and ARGV[8] == headRevHash) then
    return {}
  end
  -- Nothing of what changed is lost if every rev is there.
  local isKnown = rev == 0 and headRev <= REMEMBERED and redis.call('HLEN', KEYS[5]) == headRev
    or redis.call('HGET', KEYS[5], rev % REMEMBERED) == ARGV[7] .. ':' .. ARGV[8]
  local changed = {}
  if rev < headRev and isKnown then
    changed = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. ARGV[7], '+inf', 'LIMIT', 0, CHANGES + 1)
  end
  if #changed == 0 or #changed > CHANGES then
    return nil
  end
  local now, bytes = {}, 0
  for _, what in ipairs(changed) do
    local state = ''
    if string.sub(what, 1, 1) == '@' then
      state = redis.call('HGET', KEYS[3], string.sub(what, 2)) or ''
    else
      for _, row in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], what, what)) do
        if numberOf(row) then
          state = row
        end
      end
    end
    bytes = bytes + #state
    if bytes > size then
      return nil
    end
    now[#now + 1] = what
    now[#now + 1] = state
  end
  return now
end

local function answer(status, rows, more)
  local changed = changes()
  local reply = {
    status,
    string.format('%.0f', head),
    headDate,
    headHash,
    more and '1' or '0',
    string.format('%.0f', headRev),
    headRevHash,
    changed and #changed / 2 or -1,
  }
  for _, one in ipairs(changed or {}) do
    reply[#reply + 1] = one
  end
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
      if not numberOf(row) then
        if ARGV[6] ~= '1' then
          return { 'theirs' }
        end
      elseif #newest < 50 and (bytes <= size or #newest == 0) then
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

if headHash == '' and ARGV[6] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'theirs' }
end
if seq > 0 and not (seq == head and ARGV[3] == headHash) then
  if seq > head then
    return reset('ahead')
  end
  if first and seq < first then
    return reset('trimmed')
  end
  if not known() then
    return reset(#rowsOf(seq, first or 1) > 0 and 'rewound' or 'trimmed')
  end
end

local rows, bytes, read = {}, 0, 0
local last = seq
-- Between the rows so far and those that are left, some are gone.
local function gap()
  if #rows == 0 then
    return reset('trimmed')
  end
  return answer('ok', rows, true)
end
repeat
  local slice = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[2], '+inf', 'LIMIT', read, SLICE)
  read = read + #slice
  for _, row in ipairs(slice) do
    local number = numberOf(row)
    if number then
      if #rows == most or (#rows > 0 and bytes > size) then
        return answer('ok', rows, true)
      elseif number ~= last + 1 then
        return gap()
      end
      last = number
      rows[#rows + 1] = row
      bytes = bytes + #row
    elseif ARGV[6] ~= '1' then
      return { 'theirs' }
    end
  end
  if #slice < SLICE then
    return last < head and gap() or answer('ok', rows, false)
  end
until read > 5000
return reset('trimmed')
