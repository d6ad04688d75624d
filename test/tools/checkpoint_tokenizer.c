/*
 * checkpoint_tokenizer.c - a small byte-level BPE in the layout of the released one.
 *
 * It is learnt from the text below: cut as the released tokenizer cuts, then the
 * commonest pair of neighbours merged again and again (of equally common ones
 * the first in alphabetical order). Large vocabularies are filled up with texts
 * that no merge produces, so that the added tokens have their released ids.
 */
#include "checkpoint.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPLITS 3
#define HEAD_TOKENS 3
#define BYTE_TOKENS 256
#define MERGES 420       /* 300 for vocabularies below 1000 */
#define MAX_SYMBOLS 2048 /* bytes of the text */
#define MAX_TOKENS (BYTE_TOKENS + MERGES)
#define MAX_TOKEN_TEXT 128

/* Ids in the released vocabulary. */
#define RELEASED_ADDED_ID 128800
#define RELEASED_IMAGE_ID 128815
#define RELEASED_LAST_ID 128826

static const char corpus[] =
    "The document was converted to markdown. Free OCR. Parse the figure. Describe this image in "
    "detail.\n"
    "Locate the table in the image and return the text. Convert the document to markdown. OCR this "
    "image.\n"
    "Table 1: Results of the experiment. The first column contains the name of the method, the "
    "second column contains\n"
    "the accuracy, and the third one the running time in seconds. We thank the reviewers for their "
    "comments.\n"
    "Figure 2 shows the architecture of the encoder and the decoder. In this section we describe "
    "the data and the\n"
    "training of the model. Invoice number 2024-10-21, total amount 1,234.50 EUR, page 12 of 34.\n"
    "<table><tr><td>name</td><td>value</td></tr></table> # Title ## Section *item* **bold** "
    "[link](http://example.org)\n"
    "int main(void) { return 0; } select id, text from pages where id = 42 order by id;\n"
    "title text image table figure caption equation header footer sub_title page_number\n"
    "文档转换为标记。这是一个测试文档。图像中的文字和表格。\n"
    "état, über, niño, документ, これはテストです。\n";

static const char *const splits[SPLITS] = {
    "\\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
};

typedef struct AddedText {
    const char *content;
    bool special, normalized;
} AddedText;

static const AddedText head[HEAD_TOKENS] = {
    {"<｜begin▁of▁sentence｜>", true, false},
    {"<｜end▁of▁sentence｜>", true, false},
    {"<｜▁pad▁｜>", true, false},
};

/* From RELEASED_ADDED_ID on, and from <image> on from RELEASED_IMAGE_ID on. */
static const AddedText tail[] = {
    {"<｜fim▁hole｜>", false, true},
    {"<｜fim▁begin｜>", false, true},
    {"<｜fim▁end｜>", false, true},
    {"<｜User｜>", false, true},
    {"<｜Assistant｜>", false, true},
    {"<|EOT|>", true, true},
    {"<image>", true, false},
    {"<|ref|>", true, false},
    {"<|/ref|>", true, false},
    {"<|det|>", true, false},
    {"<|/det|>", true, false},
    {"<|grounding|>", true, false},
    {"<td>", true, false},
    {"</td>", true, false},
    {"<tr>", true, false},
    {"</tr>", true, false},
    {"<|User|>", true, false},
    {"<|Assistant|>", true, false},
};
#define TAIL_TOKENS ((int)(sizeof tail / sizeof *tail))
#define IMAGE_INDEX 6 /* in tail */

/* What has been learnt. Tokens are numbered without the head. */
typedef struct Learner {
    char tokens[MAX_TOKENS][MAX_TOKEN_TEXT]; /* [token_count] in byte symbols */
    int token_count;
    int byte_tokens[256];
    int symbols[MAX_SYMBOLS]; /* [symbol_count] the text as tokens; -1 ends a word */
    int symbol_count;
    int counts[MAX_TOKENS][MAX_TOKENS]; /* of neighbours (left, right) */
    int merges[MERGES][2];              /* [merge_count] */
    int merge_count;
} Learner;

/* ---- bytes and words ---- */

static bool is_printable(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

/* Printable bytes come first and stand for themselves; the others are U+0100 and following. */
static void add_byte_tokens(Learner *learner) {
    for (int pass = 0; pass < 2; pass++) {
        int other = 0;
        for (int byte = 0; byte < 256; byte++) {
            if (is_printable(byte) != (pass == 0))
                continue;
            int code = pass == 0 ? byte : 0x100 + other++;
            char *text = learner->tokens[learner->token_count];
            if (code < 0x80)
                snprintf(text, MAX_TOKEN_TEXT, "%c", code);
            else
                snprintf(text, MAX_TOKEN_TEXT, "%c%c", 0xC0 | code >> 6, 0x80 | (code & 0x3F));
            learner->byte_tokens[byte] = learner->token_count++;
        }
    }
}

static void add_word(Learner *learner, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        learner->symbols[learner->symbol_count++] = learner->byte_tokens[(unsigned char)text[i]];
    learner->symbols[learner->symbol_count++] = -1;
}

/* Matches and the gaps between them are cut further by the patterns that follow. */
static bool cut(Learner *learner, const char *text, size_t length, int split) {
    if (length == 0)
        return true;
    if (split == SPLITS) {
        add_word(learner, text, length);
        return true;
    }
    int problem;
    size_t offset, done = 0;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)splits[split], PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &problem, &offset, NULL);
    pcre2_match_data *match = code ? pcre2_match_data_create_from_pattern(code, NULL) : NULL;
    bool fine = match;
    while (fine && done < length) {
        size_t begin = length, end = length;
        if (pcre2_match(code, (PCRE2_SPTR)text, length, done, 0, match, NULL) > 0) {
            begin = pcre2_get_ovector_pointer(match)[0];
            end = pcre2_get_ovector_pointer(match)[1];
        }
        fine = cut(learner, text + done, begin - done, split + 1) &&
               cut(learner, text + begin, end - begin, split + 1);
        done = end;
    }
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    return fine;
}

/* ---- merges ---- */

/* Is the pair (a, b) before (c, d)? */
static bool is_before(const Learner *learner, int a, int b, int c, int d) {
    int order = strcmp(learner->tokens[a], learner->tokens[c]);
    return order ? order < 0 : strcmp(learner->tokens[b], learner->tokens[d]) < 0;
}

static bool commonest_pair(Learner *learner, int pair[2]) {
    const int *symbols = learner->symbols;
    int best = 0;
    memset(learner->counts, 0, sizeof learner->counts);
    for (int i = 0; i + 1 < learner->symbol_count; i++)
        if (symbols[i] >= 0 && symbols[i + 1] >= 0)
            learner->counts[symbols[i]][symbols[i + 1]]++;
    for (int i = 0; i + 1 < learner->symbol_count; i++) {
        int left = symbols[i], right = symbols[i + 1];
        if (left < 0 || right < 0)
            continue;
        int count = learner->counts[left][right];
        if (count > best || (count == best && is_before(learner, left, right, pair[0], pair[1]))) {
            best = count;
            pair[0] = left;
            pair[1] = right;
        }
    }
    return best > 0;
}

/* The token of both texts together, which an earlier merge may have made. */
static int joined_token(Learner *learner, const int pair[2]) {
    char text[2 * MAX_TOKEN_TEXT];
    snprintf(text, sizeof text, "%s%s", learner->tokens[pair[0]], learner->tokens[pair[1]]);
    int token = 0;
    while (token < learner->token_count && strcmp(learner->tokens[token], text) != 0)
        token++;
    if (token == learner->token_count) {
        snprintf(learner->tokens[token], MAX_TOKEN_TEXT, "%.*s", MAX_TOKEN_TEXT - 1, text);
        learner->token_count++;
    }
    return token;
}

static void merge_pair(Learner *learner, const int pair[2]) {
    int *symbols = learner->symbols, kept = 0, token = joined_token(learner, pair);
    for (int i = 0; i < learner->symbol_count; i++) {
        bool joined =
            i + 1 < learner->symbol_count && symbols[i] == pair[0] && symbols[i + 1] == pair[1];
        symbols[kept++] = joined ? token : symbols[i];
        i += joined;
    }
    learner->symbol_count = kept;
    memcpy(learner->merges[learner->merge_count++], pair, 2 * sizeof *pair);
}

static bool learn(Learner *learner, int merges) {
    int pair[2];
    add_byte_tokens(learner);
    if (!cut(learner, corpus, strlen(corpus), 0))
        return false;
    while (learner->merge_count < merges && commonest_pair(learner, pair))
        merge_pair(learner, pair);
    return true;
}

/* ---- tokenizer.json ---- */

static json_t *vocabulary_json(const Learner *learner, int size) {
    json_t *vocabulary = json_object();
    int id = 0;
    for (int i = 0; i < HEAD_TOKENS; i++)
        json_object_set_new(vocabulary, head[i].content, json_integer(id++));
    for (int i = 0; i < learner->token_count; i++)
        json_object_set_new(vocabulary, learner->tokens[i], json_integer(id++));
    for (; id < size; id++) {
        char filler[32];
        snprintf(filler, sizeof filler, "Ġt%05x", id);
        json_object_set_new(vocabulary, filler, json_integer(id));
    }
    return vocabulary;
}

static json_t *merges_json(const Learner *learner, bool lists) {
    json_t *merges = json_array();
    for (int i = 0; i < learner->merge_count; i++) {
        const char *left = learner->tokens[learner->merges[i][0]];
        const char *right = learner->tokens[learner->merges[i][1]];
        json_array_append_new(merges, lists ? json_pack("[s, s]", left, right)
                                            : json_sprintf("%s %s", left, right));
    }
    return merges;
}

static void append_added(json_t *list, const AddedText *added, int id) {
    json_array_append_new(list,
                          json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id, "content",
                                    added->content, "single_word", 0, "lstrip", 0, "rstrip", 0,
                                    "normalized", added->normalized, "special", added->special));
}

/* released: with the released ids; otherwise they follow the vocabulary. */
static json_t *added_json(int vocabulary, bool released) {
    json_t *list = json_array();
    for (int i = 0; i < HEAD_TOKENS; i++)
        append_added(list, &head[i], i);
    for (int i = 0; i < TAIL_TOKENS; i++) {
        int id = vocabulary + i;
        if (released)
            id = i < IMAGE_INDEX ? RELEASED_ADDED_ID + i : RELEASED_IMAGE_ID + i - IMAGE_INDEX;
        append_added(list, &tail[i], id);
    }
    return list;
}

static json_t *byte_level_json(bool prefix_space, bool trim_offsets, bool use_regex) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix_space,
                     "trim_offsets", trim_offsets, "use_regex", use_regex);
}

static json_t *pre_tokenizer_json(void) {
    json_t *steps = json_array();
    for (int i = 0; i < SPLITS; i++)
        json_array_append_new(steps,
                              json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern",
                                        "Regex", splits[i], "behavior", "Isolated", "invert", 0));
    json_array_append_new(steps, byte_level_json(false, true, false));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

json_t *checkpoint_tokenizer(int vocab_size, bool list_merges) {
    bool released = vocab_size > RELEASED_LAST_ID;
    json_t *result = NULL;
    Learner *learner = calloc(1, sizeof *learner);
    if (learner && learn(learner, vocab_size >= 1000 ? MERGES : 300)) {
        int size = HEAD_TOKENS + learner->token_count;
        if (released || size + TAIL_TOKENS <= vocab_size)
            result = json_pack("{s:s, s:n, s:n, s:o, s:{s:s, s:[]}, s:o, s:o, s:o,"
                               " s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:o, s:o}}",
                               "version", "1.0", "truncation", "padding", "added_tokens",
                               added_json(size, released), "normalizer", "type", "Sequence",
                               "normalizers", "pre_tokenizer", pre_tokenizer_json(),
                               "post_processor", byte_level_json(true, false, true), "decoder",
                               byte_level_json(true, true, true), "model", "type", "BPE", "dropout",
                               "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                               "fuse_unk", 0, "byte_fallback", 0, "vocab",
                               vocabulary_json(learner, released ? RELEASED_ADDED_ID : 0), "merges",
                               merges_json(learner, list_merges));
    }
    free(learner);
    return result;
}
