import type { User } from "@hubbub/server/protocol";
import { nameOf } from "../../chat/state/people.ts";
import css from "./PersonName.module.css";

/** What a person is called, and their username beside it where they chose another name. */
export function PersonName({ user }: { user: User }) {
  return (
    <>
      <bdi>{nameOf(user)}</bdi>
      {user.displayName !== undefined && (
        <>
          {" "}
          <small className={css.username}>@{user.username}</small>
        </>
      )}
    </>
  );
}
