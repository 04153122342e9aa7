# docs/*.md and docs/commands/*.md become part of sq_help; manual pages and completions are written by the built program.
file(GLOB pages CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/docs/*.md)
file(GLOB command_pages CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/docs/commands/*.md)
foreach(page ${pages})
  get_filename_component(name ${page} NAME_WE)
  shardq_embed(sq_help page_${name} ${page})
  list(APPEND manual_topics ${name}.7)
endforeach()
foreach(page ${command_pages})
  get_filename_component(name ${page} NAME_WE)
  shardq_embed(sq_help command_${name} ${page})
  list(APPEND manual_topics ${name}.1)
endforeach()

string(TIMESTAMP date "%Y-%m-%d" UTC) # SOURCE_DATE_EPOCH, where it is set
set_source_files_properties(src/command_page.c PROPERTIES COMPILE_DEFINITIONS SHARDQ_DATE="${date}")

include(GNUInstallDirs)
# What MPI keeps to its end is no reason for a build with sanitizers to fail.
set(run_shardq ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0 $<TARGET_FILE:shardq>)
set(manual_folder ${CMAKE_CURRENT_BINARY_DIR}/man)
foreach(topic ${manual_topics})
  get_filename_component(name ${topic} NAME_WE)
  string(REGEX REPLACE ".*\\." "" section ${topic})
  set(file ${manual_folder}/man${section}/shardq-${topic})
  if(name STREQUAL shardq)
    set(file ${manual_folder}/man1/shardq.1)
  endif()
  list(APPEND manual_files ${file})
  add_custom_command(OUTPUT ${file} DEPENDS shardq VERBATIM
    COMMAND ${CMAKE_COMMAND} -E make_directory ${manual_folder}/man${section}
    COMMAND ${run_shardq} help ${name} --man > ${file})
endforeach()
set(completion_folder ${CMAKE_CURRENT_BINARY_DIR}/completion)
add_custom_command(OUTPUT ${completion_folder}/shardq ${completion_folder}/_shardq DEPENDS shardq VERBATIM
  COMMAND ${CMAKE_COMMAND} -E make_directory ${completion_folder}
  COMMAND ${run_shardq} completion bash > ${completion_folder}/shardq
  COMMAND ${run_shardq} completion zsh > ${completion_folder}/_shardq)
add_custom_target(manual ALL DEPENDS ${manual_files} ${completion_folder}/shardq ${completion_folder}/_shardq)

install(DIRECTORY ${manual_folder}/ DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${completion_folder}/shardq DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${completion_folder}/_shardq DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
