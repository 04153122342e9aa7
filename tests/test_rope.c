/* Rotary embeddings as configurations describe them: which keys count, how much of a head turns, and the angles. */
#define _GNU_SOURCE /* capture.h */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "capture.h"
#include "model/rope.h"

static const struct sq_dimensions dims = {.head_dim = 8, .max_length = 64};
static const struct sq_rope_form whole = {.use = SQ_ROPE_EVERYWHERE};
static const struct sq_rope_form partial = {
    .use = SQ_ROPE_EVERYWHERE, .theta_key = "base", .part_key = "part", .theta = 100, .part = 0.5};
static const struct sq_rope_form by_window = {
    .use = SQ_ROPE_BY_WINDOW, .theta = 1e6, .window_theta_key = "rope_local_base_freq"};

static enum sq_status read_rope(const struct sq_rope_form *form, bool windowed, const char *text, json_t **config_p,
                                struct sq_rope *rope_p)
{
    *config_p = json_loads(text, 0, NULL);
    assert_non_null(*config_p);
    return sq_rope_read(form, windowed, *config_p, "folder", &dims, rope_p);
}

static void check(const struct sq_rope_form *form, bool windowed, const char *text, int64_t n_frequencies, double theta)
{
    json_t *config;
    struct sq_rope rope;
    float cosine[3 * 4], sine[3 * 4];
    assert_int_equal(read_rope(form, windowed, text, &config, &rope), SQ_OK);
    assert_int_equal(rope.n_frequencies, n_frequencies);
    sq_rope_fill(&rope, 3, cosine, sine);
    for (int64_t t = 0; t < 3; t++)
        for (int64_t i = 0; i < n_frequencies; i++) {
            double angle = (double)t * pow(theta, -(double)i / (double)n_frequencies);
            assert_true(fabs((double)cosine[t * n_frequencies + i] - cos(angle)) < 1e-6);
            assert_true(fabs((double)sine[t * n_frequencies + i] - sin(angle)) < 1e-6);
        }
    json_decref(config);
}

static void test_keys(void **state)
{
    (void)state;
    check(&whole, false, "{}", 4, 1e4);
    check(&whole, false, "{\"rope_theta\": 50}", 4, 50);
    check(&whole, false, "{\"rope_theta\": 50, \"rope_parameters\": {\"rope_theta\": 60}}", 4, 60);
    check(&whole, false, "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", 4, 1e4);
    check(&partial, false, "{}", 2, 100);
    check(&partial, false, "{\"base\": 50, \"part\": 0.25}", 1, 50);
    check(&partial, false, "{\"rope_parameters\": {\"partial_rotary_factor\": 1.0, \"rope_theta\": 60}}", 4, 60);
}

static void test_sets_by_window(void **state)
{
    (void)state;
    static const char old[] = "{\"rope_theta\": 500, \"rope_local_base_freq\": 50}",
                      nested[] = "{\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 500},"
                                 " \"sliding_attention\": {\"rope_theta\": 50, \"rope_type\": \"default\"}}}";
    check(&by_window, false, "{}", 4, 1e6);
    check(&by_window, true, "{}", 4, 1e4);
    check(&by_window, false, old, 4, 500);
    check(&by_window, true, old, 4, 50);
    check(&by_window, false, nested, 4, 500);
    check(&by_window, true, nested, 4, 50);
    /* rope_scaling is about the blocks without a window */
    check(&by_window, true, "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}}", 4, 1e4);
    json_t *config;
    struct sq_rope rope;
    assert_int_equal(
        read_rope(&by_window, false, "{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8}}", &config, &rope),
        SQ_OK);
    assert_true(rope.kind == SQ_ROPE_LINEAR && rope.factor == 8);
    json_decref(config);
}

static void check_angles(const char *text, int64_t length, const double frequencies[4], double scale)
{
    static float cosine[200 * 4], sine[200 * 4];
    json_t *config;
    struct sq_rope rope;
    assert_int_equal(read_rope(&whole, false, text, &config, &rope), SQ_OK);
    sq_rope_fill(&rope, length, cosine, sine);
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < 4; i++) {
            double angle = (double)t * frequencies[i]; /* which is rounded to f32 */
            assert_true(fabs((double)cosine[t * 4 + i] - scale * cos(angle)) < 3e-5);
            assert_true(fabs((double)sine[t * 4 + i] - scale * sin(angle)) < 3e-5);
        }
    json_decref(config);
}

/* The base grows with a sample that is longer than max_position_embeddings (64), and only then. */
static void test_dynamic(void **state)
{
    (void)state;
    static const char text[] = "{\"rope_theta\": 100, \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 3}}",
                      new[] = "{\"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 3, \"rope_theta\": 100}}";
    double plain[4], grown[4], theta = 100 * pow(3 * 200.0 / 64 - 2, 8.0 / 6);
    for (int i = 0; i < 4; i++) {
        plain[i] = pow(100, -i / 4.0);
        grown[i] = pow(theta, -i / 4.0);
    }
    check_angles(text, 64, plain, 1);
    check_angles(text, 200, grown, 1);
    check_angles(new, 63, plain, 1);
    check_angles(new, 200, grown, 1);
}

/* Of pairs 0 to 3 with base 10, place 1.6 makes 1 turn in 16 positions and place 3.2 makes 0.4. */
static void test_yarn(void **state)
{
    (void)state;
#define YARN "\"factor\": 4, \"original_max_position_embeddings\": 16, \"beta_fast\": 1, \"beta_slow\": 0.4"
    static const char old[] = "{\"rope_theta\": 10, \"rope_scaling\": {\"type\": \"yarn\", " YARN "}}",
                      sharp[] = "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 10, " YARN
                                ", \"truncate\": false, \"attention_factor\": 0.75}}",
                      weighed[] = "{\"rope_theta\": 10, \"rope_scaling\": {\"type\": \"yarn\", " YARN
                                  ", \"mscale\": 2, \"mscale_all_dim\": 0.5}}",
                      half[] = "{\"rope_theta\": 10, \"rope_scaling\": {\"type\": \"yarn\", " YARN
                               ", \"mscale\": 2, \"mscale_all_dim\": 0}}",
                      beside[] = "{\"rope_theta\": 10, \"original_max_position_embeddings\": 16, \"rope_scaling\": {"
                                 "\"type\": \"yarn\", \"original_max_position_embeddings\": 32, \"factor\": null,"
                                 " \"beta_fast\": 1, \"beta_slow\": 0.4}}";
    double begin = 4 * log(16 / (1 * 2 * acos(-1))) / log(10), end = 4 * log(16 / (0.4 * 2 * acos(-1))) / log(10);
    double whole_steps[4], as_is[4], scale = 0.1 * log(4) + 1;
    assert_true(begin > 1.5 && begin < 1.7 && end > 3.1 && end < 3.3);
    for (int i = 0; i < 4; i++) {
        double plain = pow(10, -i / 4.0), part = fmin(fmax((i - 1) / 3.0, 0), 1),
               own = fmax((i - begin) / (end - begin), 0);
        whole_steps[i] = plain * (1 - part) + plain / 4 * part;
        as_is[i] = plain * (1 - own) + plain / 4 * own;
    }
    check_angles(old, 40, whole_steps, scale);
    check_angles(sharp, 40, as_is, 0.75);
    check_angles(weighed, 40, whole_steps, (0.2 * log(4) + 1) / (0.05 * log(4) + 1));
    check_angles(half, 40, whole_steps, scale); /* both of them, or none */
    check_angles(beside, 40, whole_steps, scale);
}

/* What is beside the angles: their order in a head, and a factor on scores. */
static void test_deepseek(void **state)
{
    (void)state;
    static const struct sq_rope_form form = {
        .use = SQ_ROPE_EVERYWHERE, .pairs = SQ_ROPE_NEIGHBOURS, .pairs_key = "rope_interleave", .scales_scores = true};
    static const struct {
        const char *text;
        enum sq_rope_pairs pairs;
        double weight;
    } cases[] = {
        {"{}", SQ_ROPE_NEIGHBOURS, 0},
        {"{\"rope_interleave\": true}", SQ_ROPE_NEIGHBOURS, 0},
        {"{\"rope_interleave\": false}", SQ_ROPE_HALVES, 0},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40, \"mscale_all_dim\": 0.707}}", SQ_ROPE_NEIGHBOURS,
         0.707},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 40}}", SQ_ROPE_NEIGHBOURS, 0},
        {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 1, \"mscale_all_dim\": 1}}", SQ_ROPE_NEIGHBOURS, 0},
    };
    for (int i = 0; i < SQ_COUNT(cases); i++) {
        json_t *config;
        struct sq_rope rope;
        assert_int_equal(read_rope(&form, false, cases[i].text, &config, &rope), SQ_OK);
        assert_int_equal(rope.pairs, cases[i].pairs);
        assert_true(fabs(rope.score_scale - pow(0.1 * cases[i].weight * log(40) + 1, 2)) < 1e-12);
        json_decref(config);
    }
}

static void check_long(const char *text, int64_t length, const double factors[2], double scale)
{
    static float cosine[40 * 2], sine[40 * 2];
    json_t *config;
    struct sq_rope rope;
    assert_int_equal(read_rope(&partial, false, text, &config, &rope), SQ_OK);
    sq_rope_fill(&rope, length, cosine, sine);
    for (int64_t t = 0; t < length; t++)
        for (int64_t i = 0; i < 2; i++) {
            double angle = (double)t * pow(100, -(double)i / 2) / factors[i];
            assert_true(fabs((double)cosine[t * 2 + i] - scale * cos(angle)) < 1e-5);
            assert_true(fabs((double)sine[t * 2 + i] - scale * sin(angle)) < 1e-5);
        }
    json_decref(config);
}

static void test_longrope(void **state)
{
    (void)state;
    static const char plain[] = "{\"original_max_position_embeddings\": 16, \"rope_scaling\": {\"type\": \"su\","
                                " \"short_factor\": [1.5, 2], \"long_factor\": [3, 5.5]}}",
                      stated[] = "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"factor\": 0.5,"
                                 " \"original_max_position_embeddings\": 16,"
                                 " \"short_factor\": [1.5, 2], \"long_factor\": [3, 5.5]}}";
    static const double near[] = {1.5, 2}, far[] = {3, 5.5};
    double scale = sqrt(1 + log(64.0 / 16) / log(16)); /* 64: max_length */
    check_long(plain, 16, near, scale);
    check_long(plain, 17, far, scale);
    check_long(stated, 40, far, 1);
}

static void refuse(const struct sq_rope_form *form, const char *text, const char *part)
{
    json_t *config;
    struct sq_rope rope;
    struct capture capture;
    capture_start(&capture);
    enum sq_status status = read_rope(form, false, text, &config, &rope);
    const char *line = capture_stop(&capture);
    assert_int_equal(status, SQ_ERR_INPUT);
    if (!capture_is_one_error(line, (const char *const[4]){part})) fail_msg("no '%s' in: %s", part, line);
    json_decref(config);
}

static void test_refused(void **state)
{
    (void)state;
    refuse(&whole, "{\"partial_rotary_factor\": 0.5}", "'partial_rotary_factor' is 0.5");
    refuse(&partial, "{\"part\": 1.5}", "'part' is 1.5");
    refuse(&partial, "{\"part\": 0.4}", "3 of the 8 entries");
    refuse(&partial, "{\"part\": 0.1}", "0 of the 8 entries");
    refuse(&whole, "{\"rope_theta\": 1e-300}", "not finite");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"dynamic\"}}", "'factor'");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"yarn\", \"beta_slow\": 0}}", "'beta_slow'");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"yarn\", \"mscale\": -1}}", "'mscale'");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"yarn\", \"mscale\": \"1\"}}", "'mscale'");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"yarn\", \"truncate\": null}}", "'truncate'");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 1e-320}}", "not finite");
    refuse(&whole, "{\"rope_scaling\": {\"type\": \"longrope\"}}", "'short_factor'");
    refuse(&partial, "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 2], \"long_factor\": [1]}}",
           "'long_factor' of the rotary embedding must list 2 numbers");
    refuse(&partial, "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 0], \"long_factor\": [1, 1]}}",
           "'short_factor'");
    refuse(&partial,
           "{\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1, 1e-60], \"long_factor\": [1, 1]}}",
           "frequency 1");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),     cmocka_unit_test(test_sets_by_window), cmocka_unit_test(test_dynamic),
        cmocka_unit_test(test_deepseek), cmocka_unit_test(test_yarn),           cmocka_unit_test(test_longrope),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
