#include "decoder/ngram.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static bool is_whitelisted(const NgramRule *rule, int id) {
    for (int i = 0; i < rule->whitelist_count; i++)
        if (rule->whitelist[i] == id)
            return true;
    return false;
}

int ngram_ban(const NgramRule *rule, const int *ids, int count, float *logits, int vocab) {
    int size = rule->size, banned = 0;
    if (size < 1 || count < size)
        return 0;
    int begin = rule->window > 0 && rule->window < count ? count - rule->window : 0;
    const int *last = ids + count - (size - 1); /* [size - 1] what the next id would follow */
    size_t bytes = (size_t)(size - 1) * sizeof *ids;
    for (int i = begin; i + size <= count; i++) {
        int id = ids[i + size - 1];
        /* One id tells most places apart; on a page they are thousands. */
        if (size > 1 && (ids[i] != last[0] || memcmp(ids + i, last, bytes) != 0))
            continue;
        if (id >= vocab || logits[id] == -INFINITY || is_whitelisted(rule, id))
            continue;
        logits[id] = -INFINITY;
        banned++;
    }
    return banned;
}

/*
 * A loop is a tail in which every id equals the one a period before, for
 * LOOP_TOKENS ids and LOOP_REPEATS periods more.
 *
 * Pages repeat themselves too: a dot leader or a rule of underscores is one
 * character 50 to 150 times, and where a vocabulary has one token for each
 * character (models made for a small alphabet do), blank lines of a form and
 * equal rows of a table are periods of 50 to 120 tokens. A fixed number of repeats
 * would cut such tables at the seventh row or let "the the the" run on for ever,
 * so the sum of both is asked for. Together that is a character 389 times, a row
 * of 16 tokens 29 times, one of 54 twelve times, a line of 120 eight times, and a
 * paragraph of 256 tokens six and a half times.
 *
 * What this does not see: a phrase that changes a little each time. While the ban
 * is on for the whole sequence a period cannot last for more than n - 1 + period
 * ids, so with the usual n this finds loops only where the ban is off, long or
 * limited to a window; loop_overruled() finds the others.
 */
#define LOOP_MAX_PERIOD 256
#define LOOP_TOKENS 384
#define LOOP_REPEATS 4

/* Most periods fail at the last id, so this is cheap enough for every token. */
int loop_period(const int *ids, int count) {
    for (int period = 1; period <= LOOP_MAX_PERIOD; period++) {
        int needed = LOOP_TOKENS + LOOP_REPEATS * period, equal = 0;
        if (count < needed + period)
            return 0; /* longer periods need more */
        const int *end = ids + count - 1;
        while (equal < needed && end[-equal] == end[-equal - period])
            equal++;
        if (equal == needed)
            return period;
    }
    return 0;
}

/*
 * The ban pushes a looping model off its phrase, and the model comes back to it:
 * n - 1 ids later, or a few more, the ban must act again. On other pages it acts
 * now and then, where a table repeats a row. With a short n it acts on plain prose.
 */
#define OVERRULED_MIN_SIZE 10

int loop_overruled(Overruled *overruled, const NgramRule *rule, int count) {
    int place = overruled->times++ % OVERRULED_PLACES;
    int oldest = overruled->places[(place + 1) % OVERRULED_PLACES];
    overruled->places[place] = count;
    if (rule->size < OVERRULED_MIN_SIZE || overruled->times < OVERRULED_PLACES ||
        count - oldest > (OVERRULED_PLACES - 1) * (rule->size + rule->size / 2))
        return 0;
    return oldest - (rule->size - 1);
}
