import type { User } from "@hubbub/server/protocol";
import { nameOf } from "../../chat/state/people.ts";
import { Cut, CutLine } from "./Cut.tsx";
import css from "./PersonName.module.css";

/**
 * What a person is called, and their username beside it where they chose another name. `line`: in one line, where the
 * name is cut first.
 */
export function PersonName({ user, line = false }: { user: User; line?: boolean }) {
  const { displayName, username } = user;
  const beside = displayName !== undefined && <small className={css.username}>@{username}</small>;
  if (line)
    return (
      <CutLine>
        <Cut>{nameOf(user)}</Cut>
        {beside && <span className={css.beside}> {beside}</span>}
      </CutLine>
    );
  return (
    <>
      <bdi>{nameOf(user)}</bdi> {beside}
    </>
  );
}
