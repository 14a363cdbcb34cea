import type { ListedRoom, RoomId } from "@hubbub/server/protocol";
import { fold, matchOf, searchFor } from "@hubbub/server/search";
import { useState } from "react";
import { wordsOf } from "../../chat/api.ts";
import { FoundCount, FoundNothing } from "../finding/Found.tsx";
import { useFound } from "../finding/useFound.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog, DialogActions } from "../ui/Dialog.tsx";
import { Fault } from "../ui/Fault.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { SkeletonRows } from "../ui/Skeleton.tsx";
import { useClient } from "../useChat.ts";
import css from "./BrowseRooms.module.css";
import { useWays } from "./useWays.ts";

/** The server's named rooms, to join or to open. */
export function BrowseRooms() {
  const chat = useClient();
  const { open, close } = useOverlays();
  const { enter } = useWays();
  const [wanted, setWanted] = useState("");
  const text = wanted.trim();
  const { answer, current, busy, fault: listFault, more } = useFound(chat.findRooms, text);
  const [joining, setJoining] = useState<RoomId | null>(null);
  const [joinFault, setFault] = useState<string | null>(null);
  const fault = joinFault ?? listFault;
  const [all, setAll] = useState<number | null>(null);
  if (current && text === "" && all !== answer.total) setAll(answer.total);

  function join(room: ListedRoom) {
    if (room.joined) {
      enter(room.id);
      return;
    }
    setJoining(room.id);
    setFault(null);
    chat.joinRoom(room.id).then(
      () => enter(room.id),
      (error: unknown) => {
        setJoining(null);
        setFault(wordsOf(error));
      },
    );
  }

  const search = searchFor(text);
  const found = current ? answer.found : answer.found.filter((room) => matchOf(fold(room.name), search) > 0);
  return (
    <Dialog title="Browse rooms" look="tall" onClose={close}>
      <SearchField label="Find a room" busy={busy} value={wanted} onText={setWanted} />
      <FoundCount
        total={current && answer.total > 0 ? answer.total : null}
        all={text === "" ? null : all}
        what={["room", "rooms"]}
      />
      {fault !== null && <Fault>{fault}</Fault>}
      <div className={css.list} aria-busy={busy && fault === null}>
        {answer.text === null && fault === null && <SkeletonRows />}
        <ul>
          {found.map((room) => (
            <li key={room.id} className={css.room}>
              <RoomSign title={room.name} partnerId={null} />
              <span className={css.what}>
                <span data-part="name" className={css.name}>
                  {room.name}
                </span>
                <span className={css.members}>
                  {room.members === 1 ? "1 member" : `${room.members} members`}
                </span>
              </span>
              <Button
                look={room.joined ? "plain" : "main"}
                aria-label={`${room.joined ? "Open" : "Join"} ${room.name}`}
                busy={joining === room.id}
                disabled={joining !== null}
                onClick={() => join(room)}
              >
                {room.joined ? "Open" : "Join"}
              </Button>
            </li>
          ))}
        </ul>
        <FoundNothing>
          {found.length > 0 || fault !== null || answer.text === null
            ? ""
            : !current
              ? "Looking…"
              : text === ""
                ? "There are no rooms besides General yet."
                : "No room by that name."}
        </FoundNothing>
        <ShowMore
          more={current && found.length < answer.total}
          count={found.length}
          busy={busy}
          onMore={more}
        />
      </div>
      <DialogActions>
        <Button icon="plus" onClick={() => open({ is: "new room" })}>
          New room
        </Button>
      </DialogActions>
    </Dialog>
  );
}
