/*
 * encoding.h - the engine speaks UTF-8, a database its own encoding.
 */
#ifndef PG_ENCODING_H
#define PG_ENCODING_H

/* A string of the database in UTF-8; may be the argument itself. */
const char *utf8_from_server(const char *text);

/* Valid UTF-8 as a text value of the database; PostgreSQL's own error where it has no such
 * character. */
text *text_from_utf8(const char *utf8, size_t length);

/* Would text_from_utf8 succeed? */
bool utf8_fits_server(const char *utf8, size_t length);

/* What to say where it would not. */
const char *message_untranslatable(void);

/* A message of the engine, fit for ereport in any database; never fails. */
const char *message_from_utf8(const char *utf8);

#endif
