import css from "./Rows.module.css";

/** What the lists of a room's details look like. */
export const look = {
  row: css.row,
  what: css.what,
  note: css.note,
  choices: css.choices,
  about: css.about,
};
