/* The options of `shardq tokenize`, for help, completion and the check of names. tools/tokenize.py reads them; a test
 * compares the two. */
#include "config/options.h"

static const struct sq_word bos_words[] = {{"auto", 0}, {"always", 1}, {"never", 2}, {NULL, 0}};

/* clang-format off */
#define TOKENIZE .commands = SQ_COMMAND_TOKENIZE
#define NEEDED .required = SQ_COMMAND_TOKENIZE

static const struct sq_option options[] = {
    {.section = "Files",
     .flag = "--model", .value_name = "DIR", .type = SQ_OPTION_STRING, TOKENIZE, NEEDED,
     .help = "Folder with the model's tokenizer.json."},
    {.flag = "--text", .value_name = "FILE...", .type = SQ_OPTION_LIST, TOKENIZE, NEEDED,
     .help = "Texts: .jsonl (the --field of each line), .parquet (a column; needs pyarrow), or any other name for plain "
             "UTF-8."},
    {.flag = "--field", .value_name = "NAME", .type = SQ_OPTION_STRING, .default_text = "text", TOKENIZE,
     .help = "Field of .jsonl, column of .parquet."},
    {.flag = "--out", .value_name = "FILE.h5", .type = SQ_OPTION_STRING, TOKENIZE, NEEDED,
     .help = "Token file to write."},
    {.flag = "--force", .type = SQ_OPTION_BOOL, TOKENIZE, .help = "Replaces an output file that is there."},

    {.section = "Samples",
     .flag = "--samples", .value_name = "N", .type = SQ_OPTION_INT64, .default_text = "128", TOKENIZE,
     .help = "Samples to draw; with --windows the first N of all there are."},
    {.flag = "--length", .value_name = "N", .type = SQ_OPTION_INT64, .default_text = "2048", TOKENIZE,
     .help = "Tokens of each sample."},
    {.flag = "--weight", .value_name = "W...", .type = SQ_OPTION_LIST, TOKENIZE,
     .help = "Share of each text, in their order; without it all have the same."},
    {.flag = "--seed", .value_name = "N", .type = SQ_OPTION_INT64, .default_text = "0", TOKENIZE,
     .help = "Seed of the drawing."},
    {.flag = "--windows", .type = SQ_OPTION_BOOL, TOKENIZE,
     .help = "Consecutive windows from the first token on, for evaluation, instead of a random draw for calibration."},
    {.flag = "--overlap", .type = SQ_OPTION_BOOL, TOKENIZE, .help = "Drawn samples of one text may overlap."},
    {.flag = "--bos", .value_name = "WHEN", .type = SQ_OPTION_CHOICE, .default_text = "auto", .words = bos_words, TOKENIZE,
     .help = "The token that begins a sequence, in front of every sample; auto: of drawn samples, if the model's "
             "tokenizer puts one in front of a text."},

    {.section = "Result",
     .flag = "--json", .type = SQ_OPTION_BOOL, TOKENIZE, .help = "Prints the summary as one JSON object."},
};
/* clang-format on */

const struct sq_option *sq_tokenize_option_table(int *count_p)
{
    *count_p = (int)(sizeof options / sizeof *options);
    return options;
}
