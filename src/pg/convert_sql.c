#include "postgres.h"
#include "pg/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "pg/convert_sql.h"

/* The column of target_table beside key and text. */
#define PAGE_COLUMN "page"

#define MAX_PARAMETERS 7

/* ---- names ---- */

static const char *table_name(Relation table) {
    return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
                                      RelationGetRelationName(table));
}

/*
 * A row of the source goes by the table's own name, which is what the caller's filter may call it.
 * This is a name for the other table of a subquery: any but that.
 */
static const char *other_name(Relation source) {
    return RelationGetRelationName(source)[0] == 'o' ? "p" : "o";
}

/* A column of a row of the source. */
static const char *column(Relation source, const char *name) {
    return psprintf("%s.%s", quote_identifier(RelationGetRelationName(source)),
                    quote_identifier(name));
}

static Form_pg_attribute find_column(Relation table, const char *name) {
    AttrNumber number = get_attnum(RelationGetRelid(table), name);

    if (number <= 0)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_COLUMN),
                 errmsg("column \"%s\" of table %s does not exist", name, table_name(table))));
    return TupleDescAttr(RelationGetDescr(table), number - 1);
}

/* ---- what a job asks of its tables ---- */

/* Rows are found by ctid, locked and updated, which only tables of this server allow. */
static void check_source(Relation source) {
    ListCell *cell;
    char kind = source->rd_rel->relkind;

    if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("%s is not a table", table_name(source)),
                        errhint("Name the table that the images are stored in.")));
    foreach (cell, find_all_inheritors(RelationGetRelid(source), AccessShareLock, NULL))
        if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
            ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                            errmsg("%s has foreign partitions", table_name(source)),
                            errhint("Convert its local partitions, each by a call of its own, and "
                                    "the others on the servers that they are on.")));
}

static void check_image(Relation source, const char *image) {
    Oid type = find_column(source, image)->atttypid;

    if (getBaseType(type) != BYTEAOID)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\" must be of type bytea, not %s", image,
                               format_type_be(type))));
}

/* Names of the columns of a unique index that covers all rows; NIL for any other. */
static List *unique_columns(Relation table, Oid index_oid, bool primary) {
    Relation index = index_open(index_oid, AccessShareLock);
    Form_pg_index form = index->rd_index;
    List *columns = NIL;

    if (form->indisunique && form->indisvalid && (form->indisprimary || !primary) &&
        RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL)
        for (int i = 0; i < form->indnkeyatts; i++)
            columns = lappend(columns, makeString(get_attname(RelationGetRelid(table),
                                                              form->indkey.values[i], false)));
    index_close(index, AccessShareLock);
    return columns;
}

static List *primary_key(Relation source) {
    ListCell *cell;

    foreach (cell, RelationGetIndexList(source)) {
        List *columns = unique_columns(source, lfirst_oid(cell), true);

        if (columns != NIL)
            return columns;
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                    errmsg("table %s has no primary key", table_name(source)),
                    errhint("Name a unique column as key.")));
}

/* Is there a unique index over exactly these columns? */
static bool is_unique(Relation table, List *columns) {
    ListCell *cell;

    foreach (cell, RelationGetIndexList(table)) {
        List *found = unique_columns(table, lfirst_oid(cell), false);

        if (list_length(found) == list_length(columns) && list_difference(columns, found) == NIL)
            return true;
    }
    return false;
}

static List *checked_key(Relation source, const char *name) {
    List *key = list_make1(makeString(unconstify(char *, name)));

    if (!find_column(source, name)->attnotnull || !is_unique(source, key))
        ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                        errmsg("column \"%s\" does not identify a row of table %s", name,
                               table_name(source)),
                        errhint("A key is NOT NULL and has a unique index. Leave the argument out "
                                "for a primary key of several columns.")));
    return key;
}

/* It must have what the texts' rows are made of, and they must be unique in it. */
static void check_target_table(Relation target, List *key) {
    List *columns = lappend(list_copy(key), makeString(pstrdup(PAGE_COLUMN)));
    StringInfoData names;
    ListCell *cell;

    initStringInfo(&names);
    foreach (cell, columns) {
        find_column(target, strVal(lfirst(cell)));
        appendStringInfo(&names, "%s%s", names.len ? ", " : "",
                         quote_identifier(strVal(lfirst(cell))));
    }
    if (!is_unique(target, columns))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
                 errmsg("table %s has no unique index on (%s)", table_name(target), names.data),
                 errhint("It keeps a page from being stored twice, and finds it. Add a "
                         "primary key.")));
}

/* A position in the error means one in this text, not in the statement that the user sent. */
static void tell_position(void *sql) {
    int position = geterrposition();

    if (position > 0) {
        errposition(0);
        internalerrposition(position);
        internalerrquery(sql);
    }
}

static List *parse(char *sql) {
    ErrorContextCallback context = {
        .previous = error_context_stack, .callback = tell_position, .arg = sql};
    List *statements;

    error_context_stack = &context;
    statements = pg_parse_query(sql);
    error_context_stack = context.previous;
    return statements;
}

/* Nothing but one expression, so that it can be put between parentheses. */
static void check_filter(const char *filter) {
    List *statements = parse(psprintf("SELECT %s", filter));
    SelectStmt *select = list_length(statements) == 1
                             ? (SelectStmt *)linitial_node(RawStmt, statements)->stmt
                             : NULL;
    SelectStmt *bare = makeNode(SelectStmt);

    if (select != NULL && IsA(select, SelectStmt) && list_length(select->targetList) == 1) {
        bare->targetList = select->targetList;
        if (linitial_node(ResTarget, select->targetList)->name == NULL && equal(select, bare))
            return;
    }
    ereport(ERROR,
            (errcode(ERRCODE_SYNTAX_ERROR), errmsg("filter is not an expression: %s", filter),
             errhint("Write what could follow WHERE.")));
}

/* ---- statements ---- */

typedef struct Writer {
    const ConvertTables *tables;
    Relation source;
    Relation target;         /* NULL: texts go to the source */
    List *key;               /* of String: columns */
    const char *source_item; /* the source in FROM and UPDATE; names are qualified here */
    const char *failures;    /* the extension's table */
    const char *key_text;    /* expression */
} Writer;

/*
 * One column as its text, several as that of a row; compared as the column of ocr_failures is, lest
 * its index be of no use.
 */
static const char *key_text(Relation source, List *key) {
    StringInfoData sql;
    ListCell *cell;

    initStringInfo(&sql);
    foreach (cell, key)
        appendStringInfo(&sql, "%s%s", sql.len ? ", " : "", column(source, strVal(lfirst(cell))));
    return psprintf("CAST(%s AS pg_catalog.text) COLLATE pg_catalog.\"default\"",
                    list_length(key) > 1 ? psprintf("ROW(%s)", sql.data) : sql.data);
}

/* The operator by which indexes on the type know equal values. */
static const char *equality(Oid type) {
    Oid operator_oid = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;
    HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator_oid));
    Form_pg_operator form;
    const char *name;

    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("type %s has no equality operator", format_type_be(type))));
    form = (Form_pg_operator)GETSTRUCT(tuple);
    name = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
                    NameStr(form->oprname));
    ReleaseSysCache(tuple);
    return name;
}

/* Tables that inherit from this one are tables of their own: the key is not unique beyond it. */
static const char *source_item(Relation source) {
    bool partitioned = source->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;

    return psprintf("%s%s", partitioned ? "" : "ONLY ", table_name(source));
}

/* The target table in a FROM list. */
static const char *target_item(const Writer *writer) {
    return psprintf("%s AS %s", table_name(writer->target), other_name(writer->source));
}

/* To cast to without cutting anything off: plain `character` and `bit` have a length of one. */
static const char *unlimited_type(Oid type) {
    return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* " AND" or " WHERE" a row of the target table is of this row */
static void append_match(StringInfo sql, const Writer *writer, const char *before) {
    ListCell *cell;

    foreach (cell, writer->key) {
        const char *name = strVal(lfirst(cell));
        Form_pg_attribute own = find_column(writer->target, name);

        appendStringInfo(sql, " %s %s.%s %s CAST(%s AS %s)", before, other_name(writer->source),
                         quote_identifier(name), equality(own->atttypid),
                         column(writer->source, name), unlimited_type(own->atttypid));
        if (OidIsValid(own->attcollation))
            appendStringInfo(sql, " COLLATE %s", generate_collation_name(own->attcollation));
        before = "AND";
    }
}

/* Where the texts go: for statements whose $1 is the source. */
static const char *text_table(const ConvertTables *tables) {
    return OidIsValid(tables->target_table)
               ? psprintf("CAST(%u AS pg_catalog.oid)", tables->target_table)
               : "$1";
}

/* "it is a failure of this role's, of this job" */
static const char *of_job(const Writer *writer) {
    const ConvertTables *tables = writer->tables;
    const char *other = other_name(writer->source);

    return psprintf("%s.role OPERATOR(pg_catalog.=) $2 AND %s.source OPERATOR(pg_catalog.=) $1"
                    " AND %s.image OPERATOR(pg_catalog.=) %s"
                    " AND %s.target_table OPERATOR(pg_catalog.=) %s"
                    " AND %s.target OPERATOR(pg_catalog.=) %s",
                    other, other, other, quote_literal_cstr(tables->image), other,
                    text_table(tables), other, quote_literal_cstr(tables->target));
}

/* "EXISTS (a failure of this row, recorded OPERATOR $3)" */
static void append_failure(StringInfo sql, const Writer *writer, const char *operator_name) {
    const char *other = other_name(writer->source);

    appendStringInfo(sql,
                     "EXISTS (SELECT FROM %s AS %s WHERE %s"
                     " AND %s.key OPERATOR(pg_catalog.=) %s"
                     " AND %s.failed_at OPERATOR(pg_catalog.%s) $3)",
                     writer->failures, other, of_job(writer), other, writer->key_text, other,
                     operator_name);
}

/* "it has no text, or one that lacks pages" */
static void append_not_stored(StringInfo sql, const Writer *writer) {
    const ConvertTables *tables = writer->tables;

    if (writer->target == NULL) {
        appendStringInfo(sql, "%s IS NULL", column(writer->source, tables->target));
        return;
    }
    appendStringInfo(sql, "(NOT EXISTS (SELECT FROM %s", target_item(writer));
    append_match(sql, writer, "WHERE");
    appendStringInfoChar(sql, ')');
    if (tables->retry) {
        appendStringInfoString(sql, " OR ");
        append_failure(sql, writer, "<");
    }
    appendStringInfoChar(sql, ')');
}

/* Everything after the select list of a query for pending rows. */
static void append_pending(StringInfo sql, const Writer *writer) {
    const ConvertTables *tables = writer->tables;

    appendStringInfo(sql, " FROM %s WHERE ", writer->source_item);
    if (tables->filter != NULL) /* may end in a comment, hence the line feed */
        appendStringInfo(sql, "(%s\n) AND ", tables->filter);
    appendStringInfo(sql, "%s IS NOT NULL AND ", column(writer->source, tables->image));
    append_not_stored(sql, writer);
    appendStringInfoString(sql, " AND NOT ");
    append_failure(sql, writer, ">=");
}

/* " AND" or " WHERE" it is this row */
static void append_row(StringInfo sql, const Writer *writer, const char *before, int parameter) {
    appendStringInfo(sql, " %s %s OPERATOR(pg_catalog.=) $%d AND %s OPERATOR(pg_catalog.=) $%d",
                     before, column(writer->source, "tableoid"), parameter,
                     column(writer->source, "ctid"), parameter + 1);
}

static void append_names(StringInfo sql, const Writer *writer, bool of_source) {
    ListCell *cell;

    foreach (cell, writer->key) {
        const char *name = strVal(lfirst(cell));

        appendStringInfo(sql, "%s, ",
                         of_source ? column(writer->source, name) : quote_identifier(name));
    }
}

static void append_store(StringInfo sql, const Writer *writer) {
    const char *target = quote_identifier(writer->tables->target);

    if (writer->target == NULL) {
        appendStringInfo(sql, "UPDATE %s SET %s = $3", writer->source_item, target);
    } else {
        appendStringInfo(sql, "INSERT INTO %s (", table_name(writer->target));
        append_names(sql, writer, false);
        appendStringInfo(sql, PAGE_COLUMN ", %s) SELECT ", target);
        append_names(sql, writer, true);
        appendStringInfo(sql, "$4, $3 FROM %s", writer->source_item);
    }
    append_row(sql, writer, "WHERE", 1);
}

/* ---- prepared ---- */

static void free_plan(void *plan) {
    SPI_freeplan(plan);
}

/*
 * Kept from one transaction to the next, and freed with the current memory context. Planned for
 * each use, which is nothing to the time of a page: a plan from the job's beginning, when the
 * target table was empty, would scan all of that for each row later on.
 */
static SPIPlanPtr prepare(const char *sql, int parameters, const Oid *types) {
    SPIPlanPtr plan =
        SPI_prepare_cursor(sql, parameters, unconstify(Oid *, types), CURSOR_OPT_CUSTOM_PLAN);
    MemoryContextCallback *callback = palloc0(sizeof *callback);

    if (plan == NULL || SPI_keepplan(plan) != 0)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    callback->func = free_plan;
    callback->arg = plan;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    return plan;
}

/* What plans it and checks privileges, as EXPLAIN does, without doing it; and did so already. */
static SPIPlanPtr rehearse(const char *sql, int parameters, const Oid *types) {
    SPIPlanPtr plan = prepare(psprintf("EXPLAIN %s", sql), parameters, types);
    Datum values[MAX_PARAMETERS] = {0};

    if (SPI_execute_plan(plan, values, "nnnnnnn", false, 0) < 0)
        elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(SPI_result));
    SPI_freetuptable(SPI_tuptable);
    return plan;
}

static void prepare_queries(const Writer *writer, ConvertSql *out) {
    static const Oid types[] = {REGCLASSOID, REGROLEOID, TIMESTAMPTZOID, OIDOID, TIDOID};
    StringInfoData sql;

    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT %s, %s", column(writer->source, "tableoid"),
                     column(writer->source, "ctid"));
    append_pending(&sql, writer);
    out->pending = prepare(sql.data, 3, types);
    append_row(&sql, writer, "AND", 4);
    /* A weaker lock than FOR UPDATE: rows that refer to this one may come and go meanwhile. */
    appendStringInfoString(&sql, " FOR NO KEY UPDATE SKIP LOCKED");
    rehearse(sql.data, 5, types);
    out->lock = prepare(sql.data, 5, types);

    resetStringInfo(&sql);
    /* A cast keeps its type, should somebody change the column's between two batches. */
    appendStringInfo(&sql, "SELECT %s, CAST(%s AS pg_catalog.bytea)", writer->key_text,
                     column(writer->source, writer->tables->image));
    append_pending(&sql, writer);
    append_row(&sql, writer, "AND", 4);
    out->fetch = prepare(sql.data, 5, types);
}

/* Which pages of a row the target table has. */
static SPIPlanPtr prepare_stored(const Writer *writer) {
    static const Oid types[] = {OIDOID, TIDOID};
    StringInfoData sql;

    initStringInfo(&sql);
    appendStringInfo(&sql, "SELECT CAST(%s.%s AS pg_catalog.int4) FROM %s, %s",
                     other_name(writer->source), PAGE_COLUMN, writer->source_item,
                     target_item(writer));
    append_row(&sql, writer, "WHERE", 1);
    append_match(&sql, writer, "AND");
    return prepare(sql.data, 2, types);
}

static void prepare_store(const Writer *writer, ConvertSql *out) {
    static const Oid types[] = {OIDOID, TIDOID, TEXTOID, INT4OID};
    StringInfoData sql;

    initStringInfo(&sql);
    append_store(&sql, writer);
    out->rehearse_store = rehearse(sql.data, 4, types);
    out->store = prepare(sql.data, 4, types);
}

/* "the column that a failure names exists", for names of columns of ocr_failures */
static const char *exists(const char *failure, const char *table, const char *name) {
    return psprintf("EXISTS (SELECT FROM pg_catalog.pg_attribute AS a"
                    " WHERE a.attrelid OPERATOR(pg_catalog.=) %s.%s"
                    " AND a.attname OPERATOR(pg_catalog.=) %s.%s)",
                    failure, table, failure, name);
}

static void prepare_records(const Writer *writer, ConvertSql *out) {
    static const Oid fail_types[] = {REGCLASSOID, REGROLEOID, TEXTOID,       INT4OID,
                                     TEXTOID,     TEXTOID,    TIMESTAMPTZOID};
    static const Oid types[] = {REGCLASSOID, REGROLEOID, TIMESTAMPTZOID, TEXTOID};
    const ConvertTables *tables = writer->tables;
    const char *other = other_name(writer->source);
    const char *own = psprintf("DELETE FROM %s AS %s WHERE", writer->failures, other);
    const char *fail =
        psprintf("INSERT INTO %s AS old (source, role, key, page, error, sqlstate, failed_at,"
                 " image, target_table, target)"
                 " VALUES ($1, $2, $3, $4, $5, $6, $7, %s, %s, %s)"
                 " ON CONFLICT (key, page, source, image, target_table, target, role) DO UPDATE"
                 " SET error = excluded.error, sqlstate = excluded.sqlstate,"
                 " failed_at = excluded.failed_at,"
                 " attempts = old.attempts OPERATOR(pg_catalog.+) 1",
                 writer->failures, quote_literal_cstr(tables->image), text_table(tables),
                 quote_literal_cstr(tables->target));

    rehearse(fail, 7, fail_types);
    out->fail = prepare(fail, 7, fail_types);
    out->forgive = prepare(psprintf("%s %s AND %s.key OPERATOR(pg_catalog.=) $4"
                                    " AND %s.failed_at OPERATOR(pg_catalog.<) $3",
                                    own, of_job(writer), other, other),
                           4, types);
    out->tidy = prepare(psprintf("%s %s AND NOT EXISTS (SELECT FROM %s"
                                 " WHERE %s OPERATOR(pg_catalog.=) %s.key)",
                                 own, of_job(writer), writer->source_item, writer->key_text, other),
                        2, types);
    out->tidy_jobs = prepare(psprintf("%s %s.role OPERATOR(pg_catalog.=) $1"
                                      " AND (NOT %s OR NOT %s)",
                                      own, other, exists(other, "source", "image"),
                                      exists(other, "target_table", "target")),
                             1, types + 1);
}

void convert_prepare(const ConvertTables *tables, ConvertSql *out) {
    Writer writer = {.tables = tables, .source = table_open(tables->source, AccessShareLock)};
    Relation failures;

    check_source(writer.source);
    check_image(writer.source, tables->image);
    if (tables->filter != NULL)
        check_filter(tables->filter);
    writer.key = tables->key ? checked_key(writer.source, tables->key) : primary_key(writer.source);
    if (OidIsValid(tables->target_table)) {
        writer.target = table_open(tables->target_table, AccessShareLock);
        check_target_table(writer.target, writer.key);
    }
    find_column(writer.target ? writer.target : writer.source, tables->target);
    writer.source_item = source_item(writer.source);
    failures = table_open(get_relname_relid("ocr_failures", tables->extension), AccessShareLock);
    writer.failures = table_name(failures);
    table_close(failures, NoLock);
    writer.key_text = key_text(writer.source, writer.key);

    out->by_page = writer.target != NULL;
    out->stored = out->by_page && tables->retry ? prepare_stored(&writer) : NULL;
    prepare_queries(&writer, out);
    prepare_store(&writer, out);
    prepare_records(&writer, out);
    if (writer.target != NULL)
        table_close(writer.target, NoLock);
    table_close(writer.source, NoLock);
}
