import type { ManagedRoom } from "@hubbub/server/protocol";
import { useMemo, useState } from "react";
import { admin } from "../../chat/admin.ts";
import { FoundCount, FoundNothing } from "../finding/Found.tsx";
import { useFound } from "../finding/useFound.ts";
import { useOverlays } from "../overlays.ts";
import { Tag } from "../ui/Badge.tsx";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { RoomSign } from "../ui/RoomSign.tsx";
import { look } from "../ui/Rows.tsx";
import { SearchField } from "../ui/SearchField.tsx";
import { ShowMore } from "../ui/ShowMore.tsx";
import { useChat, useClient } from "../useChat.ts";

/** The rooms that this admin manages, with ways to their details. */
export function AllRooms() {
  const chat = useClient();
  const { open } = useOverlays();
  const [wanted, setWanted] = useState("");
  const text = wanted.trim();
  const find = useMemo(() => admin(chat.call()).findRooms, [chat]);
  const { answer, current, busy, fault, more } = useFound(find, text);
  const general = useChat(({ rooms }) =>
    [...(rooms?.values() ?? [])].find(({ kind }) => kind === "everyone"),
  );
  return (
    <>
      <SearchField label="Find a room" busy={busy} value={wanted} onText={setWanted} />
      <FoundCount total={current ? answer.total : null} all={null} what={["named room", "named rooms"]} />
      {fault !== null && <Fault>{fault}</Fault>}
      <ul aria-label="Rooms">
        {general !== undefined && text === "" && (
          <li className={look.row}>
            <RoomSign title="General" partnerId={null} general />
            <span className={look.what}>
              {general.names[0]}
              <small>Everybody on this server</small>
            </span>
            <Button
              aria-label={`Details of ${general.names[0]}`}
              onClick={() => open({ is: "room", roomId: general.id })}
            >
              Details
            </Button>
          </li>
        )}
        {answer.found.map((room) => (
          <Row key={room.id} room={room} />
        ))}
      </ul>
      <FoundNothing>
        {current && answer.total === 0 && text !== "" ? "No room by that name." : ""}
      </FoundNothing>
      <ShowMore
        more={current && answer.found.length < answer.total}
        count={answer.found.length}
        busy={busy}
        onMore={more}
      />
    </>
  );
}

function Row({ room }: { room: ManagedRoom }) {
  const { open } = useOverlays();
  const { name, members, topic } = room;
  return (
    <li className={look.row}>
      <RoomSign title={name} partnerId={null} />
      <span className={look.what}>
        <span>
          {name} {room.kind === "invite" && <Tag>by invitation</Tag>}{" "}
          {room.archived !== undefined && <Tag>archived</Tag>} {room.joined && <Tag>joined</Tag>}
        </span>
        <small>
          {members === 1 ? "1 member" : `${members.toLocaleString()} members`}
          {topic !== undefined && ` · ${topic}`}
        </small>
      </span>
      <Button
        aria-label={`Details of ${name}`}
        onClick={() => open({ is: "room", roomId: room.id, managed: room })}
      >
        Details
      </Button>
    </li>
  );
}
