import css from "./Rows.module.css";

/** What lists of rows look like, in dialogs. */
export const look = {
  row: css.row,
  what: css.what,
  note: css.note,
  choices: css.choices,
  about: css.about,
  foot: css.foot,
};
