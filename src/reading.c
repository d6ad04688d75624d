#include "reading.h"

#include "base/numbers.h"
#include "kernels/rows.h"
#include "model/tokenizer.h"
#include "plan.h"

#include <math.h>
#include <string.h>

/*
 * A page that was turned is given up after so many ids if they lack the confidence that is asked
 * for: those of one that lies wrong have .1 to .6, be it read to its end or not.
 */
#define TRIAL_TOKENS 200

/* Words that come out sure by chance are shorter. */
#define LEAST_TOKENS 10

/*
 * Of the doubt that a text is allowed, what is left to a page that looks blank: that nothing stands
 * on it is a single decision. A letter of few lines, on its side, can look blank with .96 to .99.
 */
#define BLANK_DOUBT 0.05

/* ---- the end of a text ---- */

static void finish(Reading *reading, OcrFinish why) {
    reading->finish = why;
    reading->ended = true;
}

/* Give up on the ids from `count` on. */
static void cut(Reading *reading, int count, OcrFinish why) {
    reading->count = max_int(count, reading->plan.prompt_positions);
    reading->tokens = reading->count - reading->plan.prompt_positions;
    finish(reading, why);
}

/* Give up on the ids of which the model is not sure. */
static void keep_sure(Reading *reading, const Confidence *confidence) {
    cut(reading, reading->plan.prompt_positions + confidence_sure(confidence), OCR_FINISH_UNSURE);
}

/* A text that has ended, without what was cut off: the repeats of a loop are all but certain. */
static void judge(Reading *reading) {
    Confidence text = {.floor = reading->confidence.floor};
    for (int i = 0; i < reading->tokens; i++)
        confidence_add(&text, (double)reading->logs[i]);
    reading->without_loop =
        confidence_mean(reading->finish == OCR_FINISH_LOOP ? &text : &reading->confidence);
    if (confidence_is_low(&text))
        keep_sure(reading, &text);
}

/*
 * How many ids stand, those of the prompt included, of a text that repeats itself: those of the
 * first time, or those before what the ban held back. -1: it does not.
 */
static int kept_by_loop(Reading *reading, bool overruled) {
    const int *generated = reading->ids + reading->plan.prompt_positions;
    int period = loop_period(generated, reading->tokens), tokens = reading->tokens;
    int held_back =
        overruled ? loop_overruled(&reading->overruled, &reading->ban, reading->count - 1) : 0;
    if (period == 0)
        return held_back > 0 ? held_back : -1;
    while (tokens > period && generated[tokens - 1] == generated[tokens - 1 - period])
        tokens--;
    return reading->plan.prompt_positions + tokens;
}

/* Does the page, turned as it is, lie as badly as before? */
static bool is_vain(const Reading *reading) {
    return reading->plan.turned > 0 && reading->tokens == TRIAL_TOKENS &&
           confidence_mean(&reading->confidence) < reading->plan.turn_confidence;
}

/* Has the text come to its end with the latest id, whether the model knows it or not? */
static void end_text(Reading *reading, bool overruled, bool doubtful) {
    int kept = kept_by_loop(reading, overruled);
    if (kept >= 0)
        cut(reading, kept, OCR_FINISH_LOOP);
    else if (doubtful)
        keep_sure(reading, &reading->confidence);
    else if (is_vain(reading))
        finish(reading, OCR_FINISH_UNSURE);
    else if (reading->tokens == reading->plan.max_tokens)
        finish(reading, OCR_FINISH_LENGTH);
}

bool reading_choose(Reading *reading, float *logits, int vocabulary) {
    int best = argmax(logits, vocabulary);
    float total = log_sum_exp(logits, vocabulary);
    if (!isfinite(total))
        return false;
    ngram_ban(&reading->ban, reading->ids, reading->count, logits, vocabulary);
    bool overruled = logits[best] == -INFINITY;
    if (overruled)
        best = argmax(logits, vocabulary);
    float log_probability = logits[best] - total;
    bool doubtful = confidence_add(&reading->confidence, (double)log_probability);
    if (best == EOS_ID) {
        finish(reading, OCR_FINISH_STOP);
    } else {
        reading->ids[reading->count++] = best;
        reading->logs[reading->tokens++] = log_probability;
        end_text(reading, overruled, doubtful);
    }
    if (reading->ended)
        judge(reading);
    return true;
}

/* ---- pages that lie on their side or their head ---- */

/* Of a page that is turned: is this a text, where there was one before, or seemed to be none? */
static bool is_text(const Reading *reading, const Reading *as_it_lay) {
    bool was_read = as_it_lay->tokens > 0 || as_it_lay->finish == OCR_FINISH_STOP;
    return reading->tokens >= (was_read ? LEAST_TOKENS : 1);
}

bool reading_is_good(const Reading *reading, const Reading *as_it_lay) {
    double doubt = 1 - reading->plan.turn_confidence;
    if (doubt >= 1) /* no page is turned */
        return true;
    if (reading->tokens == 0 && reading->finish == OCR_FINISH_STOP)
        doubt *= BLANK_DOUBT;
    return 1 - reading->without_loop <= doubt &&
           (reading->plan.turned == 0 || is_text(reading, as_it_lay));
}

int reading_picture(const Reading *reading, int image_id) {
    int place = 0;
    while (reading->ids[place] != image_id)
        place++;
    return place;
}

static void copy_prompt(Reading *reading, const Reading *as_it_lay, int image_id) {
    int picture = reading_picture(as_it_lay, image_id), now = reading->plan.image_slots;
    int behind = picture + as_it_lay->plan.image_slots;
    memcpy(reading->ids, as_it_lay->ids, (size_t)picture * sizeof(int));
    for (int i = 0; i < now; i++)
        reading->ids[picture + i] = image_id;
    memcpy(reading->ids + picture + now, as_it_lay->ids + behind,
           (size_t)(as_it_lay->plan.prompt_positions - behind) * sizeof(int));
}

void reading_turn(Reading *reading, const Reading *as_it_lay, int image_id) {
    OcrPlan plan = plan_turned(&reading->plan);
    *reading = (Reading){.plan = plan,
                         .ban = reading->ban,
                         .ids = reading->ids,
                         .logs = reading->logs,
                         .count = plan.prompt_positions,
                         .confidence = {.floor = reading->confidence.floor}};
    copy_prompt(reading, as_it_lay, image_id);
}
