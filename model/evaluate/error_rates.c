/*
 * error_rates - how far texts that were read are from what stands on the pages.
 *
 *   error_rates < LIST
 *
 * Each line of LIST is a page as somebody read it, in fields between tabs:
 *
 *   reader  bucket  file with the true text  file with the text read  seconds  finish  tokens
 *
 * First come character and word error rates by bucket and reader: edits (insert,
 * delete, replace one) for each character or word of the true texts. A page whose
 * true text is empty counts what was invented. Then, for readers that tell their
 * tokens, precision by length: 1 - edits / the longer text's length, the mean of
 * the pages whose text took so many tokens.
 *
 * Characters are Unicode code points; runs of white space count as one blank, and
 * none at the ends.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GROUPS 1024
#define RANGE 100 /* tokens */
#define RANGES 20 /* the last one is for all that is longer */

static _Noreturn void die(const char *what, const char *name) {
    fprintf(stderr, "error_rates: %s \"%s\"\n", what, name);
    exit(1);
}

static void *allocate(size_t bytes) {
    void *block = malloc(bytes ? bytes : 1);
    if (!block)
        die("no memory for", "a text");
    return block;
}

/* ---- texts ---- */

/* Symbols are code points, or hashes of words. */
typedef struct Text {
    uint64_t *symbols; /* [count] */
    size_t count;
} Text;

static char *read_file(const char *path, size_t *size) {
    FILE *in = fopen(path, "rb");
    size_t room = 1 << 16;
    char *bytes = allocate(room);
    *size = 0;
    if (!in)
        die("cannot read", path);
    for (size_t got; (got = fread(bytes + *size, 1, room - *size, in)) > 0;) {
        *size += got;
        if (*size == room && !(bytes = realloc(bytes, room *= 2)))
            die("no memory for", path);
    }
    fclose(in);
    return bytes;
}

static bool is_blank(uint64_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0 || c == 0xFEFF;
}

/* The code point at bytes[*at], which moves on; a byte that is none stands for itself. */
static uint64_t next_character(const char *bytes, size_t size, size_t *at) {
    uint8_t first = (uint8_t)bytes[(*at)++];
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
    uint64_t c = more == 0 ? first : first & (0x3F >> more);
    for (; more > 0 && *at < size && ((uint8_t)bytes[*at] & 0xC0) == 0x80; more--)
        c = c << 6 | ((uint8_t)bytes[(*at)++] & 0x3F);
    return c;
}

static Text read_characters(const char *path) {
    size_t size, at = 0;
    char *bytes = read_file(path, &size);
    Text text = {allocate(size * sizeof *text.symbols), 0};
    bool blank = false;
    while (at < size) {
        uint64_t c = next_character(bytes, size, &at);
        if (is_blank(c)) {
            blank = text.count > 0;
            continue;
        }
        if (blank)
            text.symbols[text.count++] = ' ';
        text.symbols[text.count++] = c;
        blank = false;
    }
    free(bytes);
    return text;
}

/* FNV-1a of each word: two different words are equal once in 2^64. */
static Text words_of(const Text *characters) {
    Text words = {allocate((characters->count + 1) * sizeof *words.symbols), 0};
    const uint64_t seed = 0xCBF29CE484222325;
    uint64_t hash = seed;
    for (size_t i = 0; i <= characters->count; i++) {
        if (i < characters->count && characters->symbols[i] != ' ') {
            hash = (hash ^ characters->symbols[i]) * 0x100000001B3;
        } else if (hash != seed) {
            words.symbols[words.count++] = hash;
            hash = seed;
        }
    }
    return words;
}

/* Levenshtein's distance, one row of the table at a time. */
static size_t edits(const Text *a, const Text *b) {
    size_t *row =
        allocate((b->count + 1) * sizeof *row); /* of a's first i symbols to b's first j */
    for (size_t j = 0; j <= b->count; j++)
        row[j] = j;
    for (size_t i = 1; i <= a->count; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b->count; j++) {
            size_t best = diagonal + (a->symbols[i - 1] != b->symbols[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    size_t distance = row[b->count];
    free(row);
    return distance;
}

/* ---- sums ---- */

typedef struct Group {
    char reader[64], bucket[128];
    size_t pages, loops, failures;
    size_t characters, character_edits, words, word_edits;
    double seconds;
    double precision[RANGES];
    size_t pages_of_range[RANGES];
} Group;

static Group groups[MAX_GROUPS];
static size_t group_count;

static Group *find_group(const char *reader, const char *bucket) {
    for (size_t i = 0; i < group_count; i++)
        if (strcmp(groups[i].reader, reader) == 0 && strcmp(groups[i].bucket, bucket) == 0)
            return &groups[i];
    if (group_count == MAX_GROUPS)
        die("too many buckets, this is one too much:", bucket);
    Group *group = &groups[group_count++];
    snprintf(group->reader, sizeof group->reader, "%s", reader);
    snprintf(group->bucket, sizeof group->bucket, "%s", bucket);
    return group;
}

static void add_page(Group *group, const char *true_file, const char *read_file_name, int tokens) {
    Text truth = read_characters(true_file), read = read_characters(read_file_name);
    Text true_words = words_of(&truth), read_words = words_of(&read);
    size_t wrong = edits(&truth, &read);
    size_t longer = truth.count > read.count ? truth.count : read.count;
    group->pages++;
    group->characters += truth.count;
    group->character_edits += wrong;
    group->words += true_words.count;
    group->word_edits += edits(&true_words, &read_words);
    if (tokens > 0 && longer > 0) {
        int range = tokens / RANGE < RANGES ? tokens / RANGE : RANGES - 1;
        group->precision[range] += 1 - (double)wrong / (double)longer;
        group->pages_of_range[range]++;
    }
    free(truth.symbols);
    free(read.symbols);
    free(true_words.symbols);
    free(read_words.symbols);
}

static void add_line(char *line) {
    char *fields[7], *rest = line;
    for (int i = 0; i < 7; i++) {
        fields[i] = strsep(&rest, "\t");
        if (!fields[i])
            die("not seven fields:", line);
    }
    Group *group = find_group(fields[0], fields[1]);
    add_page(group, fields[2], fields[3], atoi(fields[6]));
    group->seconds += atof(fields[4]);
    group->loops += strcmp(fields[5], "loop") == 0;
    group->failures += strcmp(fields[5], "error") == 0;
}

/* ---- report ---- */

static int by_bucket(const void *a, const void *b) {
    const Group *left = a, *right = b;
    int order = strcmp(left->bucket, right->bucket);
    return order ? order : strcmp(left->reader, right->reader);
}

static void print_rate(size_t wrong, size_t all) {
    if (all > 0)
        printf(" %9.2f", 100 * (double)wrong / (double)all);
    else
        printf(" %9s", wrong ? "invented" : "0");
}

static void print_rates(void) {
    printf("%-28s %-18s %5s %10s %9s %9s %9s %5s %6s\n", "bucket", "reader", "pages", "characters",
           "CER %", "WER %", "s/page", "loops", "errors");
    for (const Group *group = groups; group < groups + group_count; group++) {
        printf("%-28s %-18s %5zu %10zu", group->bucket, group->reader, group->pages,
               group->characters);
        print_rate(group->character_edits, group->characters);
        print_rate(group->word_edits, group->words);
        printf(" %9.2f %5zu %6zu\n", group->seconds / (double)group->pages, group->loops,
               group->failures);
    }
}

/* The first group of each reader gets the sums of all of them. */
static void add_up_ranges(void) {
    for (size_t i = 0; i < group_count; i++)
        for (size_t first = 0; first < i; first++)
            if (strcmp(groups[first].reader, groups[i].reader) == 0) {
                for (int range = 0; range < RANGES; range++) {
                    groups[first].precision[range] += groups[i].precision[range];
                    groups[first].pages_of_range[range] += groups[i].pages_of_range[range];
                    groups[i].pages_of_range[range] = 0;
                }
                break;
            }
}

static void print_precision(void) {
    add_up_ranges();
    printf("\n%-12s %-18s %5s %11s\n", "tokens", "reader", "pages", "precision %");
    for (int range = 0; range < RANGES; range++)
        for (const Group *group = groups; group < groups + group_count; group++) {
            char name[32];
            size_t pages = group->pages_of_range[range];
            if (pages == 0)
                continue;
            snprintf(name, sizeof name, range == RANGES - 1 ? "%d-" : "%d-%d", range * RANGE,
                     (range + 1) * RANGE);
            printf("%-12s %-18s %5zu %11.1f\n", name, group->reader, pages,
                   100 * group->precision[range] / (double)pages);
        }
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0])
            add_line(line);
    }
    free(line);
    qsort(groups, group_count, sizeof *groups, by_bucket);
    print_rates();
    print_precision();
    return 0;
}
