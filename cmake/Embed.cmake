# shardq_embed(TARGET NAME FILE): FILE becomes part of TARGET, as it is. C sees it as
#   extern const char sq_embedded_NAME[];         the bytes, and a NUL behind them
#   extern const size_t sq_embedded_NAME_bytes;   without that NUL
# Run as a script (cmake -D NAME= -D FILE= -D OUTPUT= -P Embed.cmake) it writes the C source.
if(CMAKE_SCRIPT_MODE_FILE)
  file(READ ${FILE} bytes HEX)
  string(REGEX REPLACE "(................................)" "\\1\n    " bytes "${bytes}") # 16 bytes a line
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
  file(WRITE ${OUTPUT} "#include <stddef.h>\n"
       "extern const char sq_embedded_${NAME}[];\nextern const size_t sq_embedded_${NAME}_bytes;\n"
       "const char sq_embedded_${NAME}[] = {\n    ${bytes}'\\0'};\n"
       "const size_t sq_embedded_${NAME}_bytes = sizeof sq_embedded_${NAME} - 1;\n")
  return()
endif()

set(embed_script ${CMAKE_CURRENT_LIST_FILE})

function(shardq_embed target name file)
  get_filename_component(file ${file} ABSOLUTE)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/embedded/${name}.c)
  add_custom_command(OUTPUT ${output} DEPENDS ${file} ${embed_script} COMMENT "Embedding ${name}" VERBATIM
    COMMAND ${CMAKE_COMMAND} -D NAME=${name} -D FILE=${file} -D OUTPUT=${output} -P ${embed_script})
  target_sources(${target} PRIVATE ${output})
endfunction()
