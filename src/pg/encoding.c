#include "postgres.h"
#include "pg/compat.h"

#include "catalog/namespace.h"
#include "utils/builtins.h"

#include "pg/encoding.h"

/* In these a UTF-8 string is stored as it is. */
static bool server_takes_utf8(void) {
    return GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII;
}

const char *utf8_from_server(const char *string) {
    return pg_server_to_any(string, strlen(string), PG_UTF8);
}

text *text_from_utf8(const char *utf8, size_t length) {
    char *string = pg_any_to_server(utf8, length, PG_UTF8);

    return string == utf8 ? cstring_to_text_with_len(utf8, length) : cstring_to_text(string);
}

bool utf8_fits_server(const char *utf8, size_t length) {
    Oid conversion;

    if (server_takes_utf8())
        return true;
    conversion = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
    return OidIsValid(conversion) && compat_convertible(conversion, utf8, length);
}

const char *message_untranslatable(void) {
    return psprintf("the text has characters that are not in encoding %s",
                    GetDatabaseEncodingName());
}

const char *message_from_utf8(const char *utf8) {
    char *message;

    if (server_takes_utf8() && pg_verify_mbstr(PG_UTF8, utf8, strlen(utf8), true))
        return utf8;
    message = pstrdup(utf8);
    for (char *c = message; *c; c++)
        if (IS_HIGHBIT_SET(*c))
            *c = '?';
    return message;
}
