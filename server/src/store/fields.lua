-- Sets and deletes fields of one of a room's hashes, if the actor is still what they were in the room, or if one of its own
-- fields is still what it was.
-- KEYS records, or the hash itself; the hash (one slot)
-- ARGV 1 user id of the actor, or '' for the server itself, or the field, 2 what must still be there, or '' for nothing
--      3 how many fields are set, 4... field and value of each, then the fields to delete
-- Returns how many fields were deleted, or -1 if that has changed
if ARGV[1] ~= '' and (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
  return -1
end
local deletions = 4 + 2 * tonumber(ARGV[3])
for at = 4, deletions - 1, 2 do
  redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1])
end
local deleted = 0
for at = deletions, #ARGV do
  deleted = deleted + redis.call('HDEL', KEYS[2], ARGV[at])
end
return deleted
