"""Every hostile input that the design names, its outcome, and the tests that send it. docs/proof.md shows it."""

from collections.abc import Mapping

HOSTILE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Keys": {
        "a stored hash as key; blanks, case, non-ASCII: 401": (
            "hostile/test_keys.py::test_what_only_resembles_a_key_is_no_key",
            "hostile/test_keys.py::test_blanks_are_no_key_and_around_one_do_no_harm",
        ),
        "a key of 1 MB: 401 or 431": ("hostile/test_keys.py::test_a_key_of_a_megabyte_is_refused",),
        "two key headers: 400": ("hostile/test_keys.py::test_two_keys_are_a_bad_header_even_if_both_are_good",),
        "unknown prefix, wrong secret: the same time": (
            "gateway/test_api_keys.py::test_whatever_is_wrong_with_a_key_the_same_is_done",
        ),
        "disabled, rotated, revoked: 401, all alike": (
            "hostile/test_keys.py::test_dead_keys_look_like_keys_that_never_were",
        ),
        "a key where none belongs: nowhere in logs, Redis, Kafka, audit": (
            "journeys/test_nothing_secret_is_kept.py::test_a_key_is_nowhere_wherever_a_client_puts_it",
        ),
        "another user's object: 404": ("hostile/test_keys.py::test_another_users_objects_look_like_none",),
        "a user's key on every admin route: 403": (
            "journeys/test_admin.py::test_a_user_reaches_nothing_on_the_admin_side",
        ),
        "own role, super admin: 403": (
            "journeys/test_admin_users.py::test_nobody_changes_their_own_role_or_ends_themselves",
            "journeys/test_admin_users.py::test_an_admin_cannot_touch_a_super_admin",
        ),
        "fields role, credits, cost: 422": ("hostile/test_keys.py::test_fields_that_nobody_may_set_are_refused",),
        "headers that claim rows, a user, an address: no effect": (
            "hostile/test_keys.py::test_headers_that_claim_something_have_no_effect",
        ),
        "1,000 bad keys from one address: 429, others unharmed": (
            "hostile/test_keys.py::test_an_address_that_guesses_is_slowed_down_and_nobody_else",
        ),
    },
    "Queries": {
        "unknown field, sort; SQL where a name belongs: 422": (
            "hostile/test_queries.py::test_sql_where_a_name_belongs_is_no_name",
        ),
        "SQL, LIKE %, _, trailing backslash in values: literal": (
            "hostile/test_queries.py::test_sql_where_a_value_belongs_is_a_value",
        ),
        "limits 0, -1, 1e9, true, text; 2^63: 422": (
            "hostile/test_queries.py::test_a_body_that_is_wrong_is_refused_with_where",
        ),
        "NaN, 1e400, surrogates, U+0000, duplicate keys, UTF-16, 100,000 levels: 400, 422": (
            "hostile/test_queries.py::test_bytes_that_are_no_request_are_refused",
            "hostile/test_errors.py::test_what_is_no_json_is_said_to_be_none",
            "hostile/test_errors.py::test_json_that_cannot_be_a_request_is_refused_with_its_place",
        ),
        "a million IN values: 413": ("hostile/test_queries.py::test_a_million_values_are_too_large_a_body",),
        "a full scan over the limit: query_too_expensive, never a part": (
            "journeys/test_query_answers.py::test_a_dataset_that_reads_too_much_is_refused_with_estimate_and_limit",
            "devstack/clickhouse/test_security.py::test_limits_throw_instead_of_returning_a_part",
        ),
        "url(), s3(), file(), remote(), system tables, SETTINGS: impossible": (
            "devstack/clickhouse/test_security.py::test_the_gateway_cannot",
            "devstack/clickhouse/test_security.py::test_the_gateway_cannot_lift_a_limit",
            "devstack/clickhouse/test_security.py::test_a_call_cannot_hide_behind_quotes_and_comments",
        ),
        "many long queries of one user: 429, a neighbour unharmed": (
            "hostile/test_queries.py::test_many_at_once_are_refused_by_number_and_not_by_falling_over",
            "journeys/test_query_answers.py::test_many_scans_of_one_user_leave_a_neighbour_unharmed",
        ),
        "another user's kept answer: one's own": ("hostile/test_queries.py::test_a_kept_answer_is_never_anothers",),
        "a key again with another body: 422": ("hostile/test_queries.py::test_a_key_with_another_body_is_refused",),
        "personal values, step by step: 422": (
            "journeys/test_query_answers.py::test_personal_columns_need_their_scope",
            "contracts/test_query_language_on_clickhouse.py::test_a_masked_column_is_found_by_its_exact_value_alone",
        ),
    },
    "Files": {
        "XML with DTD, entities, billion laughs, depth 200,000: rejected, nothing fetched, memory bounded": (
            "hostile/test_files_xml_and_bombs.py::test_a_billion_laughs_are_refused",
            "hostile/test_files_xml_and_bombs.py::test_nothing_is_fetched",
            "hostile/test_files_xml_and_bombs.py::test_xml_is_bounded_in_depth_size_and_memory",
        ),
        "gzip and zip bombs, zip-slip: stopped at the cap": (
            "hostile/test_files_xml_and_bombs.py::test_a_gzip_bomb_is_stopped_at_the_cap",
            "hostile/test_files_xml_and_bombs.py::test_a_zip_whose_files_are_all_the_same_bytes_is_stopped_at_the_cap",
            "hostile/test_files_on_the_stack.py::test_names_in_an_archive_reach_no_folder",
        ),
        "a Parquet bomb: capped, the worker alive": (
            "hostile/test_files_xml_and_bombs.py::test_a_parquet_bomb_is_stopped_at_the_cap",
            "hostile/test_files_on_the_stack.py::test_hostile_files_fail_in_a_sentence_and_the_worker_goes_on",
        ),
        "1,000 mutated Parquet files: the worker never dies": (
            "hostile/test_files_parquet_mutants.py::test_every_mutant_is_read_or_refused",
            "hostile/test_files_parquet_mutants.py::test_in_its_child_process_no_mutant_ends_the_reader",
        ),
        "CSV with unclosed quotes, NUL, ragged rows, BOM, UTF-16, CR only: counts add up": (
            "hostile/test_files_text.py::test_dirty_csv_adds_up",
            "hostile/test_files_text.py::test_encodings_and_line_ends_of_csv",
        ),
        "a line of 10 GB: bounded": ("hostile/test_files_text.py::test_a_line_of_ten_gigabytes_is_bounded",),
        "JSON with missing fields: no bleed": ("hostile/test_files_text.py::test_dirty_json_adds_up",),
        "empty, header only, all bad: says so": (
            "hostile/test_files_text.py::test_a_file_without_anything_in_it_says_so",
            "hostile/test_files_text.py::test_a_file_with_a_header_alone_has_no_rows",
        ),
        "an executable called .csv: 415": (
            "hostile/test_files_on_the_stack.py::test_a_program_called_csv_is_refused_at_the_door",
        ),
        "a slow drip, a lying Content-Length, bad multipart: 400, 408, 413": (
            "gateway/test_uploads_body.py::test_a_body_that_stops_arriving_is_ended",
            "gateway/test_uploads_body.py::test_a_length_that_is_not_the_bodys_is_refused",
            "gateway/test_uploads_body.py::test_a_form_that_is_none_is_refused",
            "hostile/test_errors.py::test_a_body_that_lies_about_its_length_is_refused",
        ),
        "names with ../, CRLF, 4 kB: opaque text": ("gateway/test_uploads_body.py::test_a_file_name_is_opaque_text",),
        "bucket addresses private, decimal, IPv6-mapped, redirecting: nobody can name one": (
            "hostile/test_no_addresses.py::test_no_parameter_or_field_takes_an_address",
        ),
    },
    "What comes out, and what comes by Kafka": {
        "CSV cells that begin with = + - @ TAB CR: neutralised": (
            "gateway/test_csv_cells.py::test_a_text_that_a_spreadsheet_would_run_begins_with_a_quote",
            "journeys/test_log.py::test_in_csv_no_cell_is_a_formula",
            "gateway/test_query_plan.py::test_free_text_in_csv_cells_cannot_begin_a_formula",
        ),
        "CRLF and ANSI codes in logged fields: one line of JSON": (
            "common/test_logs.py::test_whatever_a_client_wrote_is_one_line_of_json",
            "common/test_redaction.py::test_control_characters_are_escaped",
        ),
        "headers of Kafka that clients sent: never copied": (
            "common/test_dead_letter.py::test_of_the_headers_it_came_with_only_the_dataset_is_kept",
        ),
        "year 2200, integers that overflow: quarantined": (
            "common/test_normalise.py::test_a_timestamp_is_utc_and_never_clamped",
            "common/test_normalise.py::test_a_typed_value_is_exact_or_refused",
        ),
        "grants negative, too large, of less than a millicredit, to nobody: 422, 404, the ledger unchanged": (
            "journeys/test_admin.py::test_a_grant_that_is_no_amount_changes_nothing",
            "journeys/test_admin.py::test_nobody_gets_credits_who_does_not_exist",
            "journeys/test_admin_users.py::test_what_is_no_credits_leaves_the_ledger_alone",
        ),
    },
    "Fuzz": {
        "every operation of the OpenAPI document with strange inputs": (
            "hostile/test_openapi_fuzz.py::test_no_operation_answers_what_is_not_documented",
        ),
        "readers, planner, parsers of events: `make fuzz`, and what it found": (
            "fuzz/test_targets.py::test_nothing_is_wrong_with_what_a_fuzzer_begins_with",
            "fuzz/test_targets.py::test_what_was_found_once_is_mended",
            "gateway/test_query_plan.py::test_no_body_makes_the_planner_fail_or_puts_a_text_of_it_into_sql",
            "ingest/test_any_format.py::test_damaged_csv_loses_no_line",
        ),
    },
}
